"""Which samples the loss is measured on: training set, streams, given loaders, weights."""

from lightning_hessian.data.batch_weights import BatchWeights
from lightning_hessian.data.batches import FrozenBatch, FrozenBatches, fetch_batches
from lightning_hessian.data.casting import cast_floats
from lightning_hessian.data.detached import detached_copy
from lightning_hessian.data.equal_count import pad_to_equal_count
from lightning_hessian.data.given_data import hook_owner, take_batches, validation_source
from lightning_hessian.data.loaders import Loaders
from lightning_hessian.data.stream import WAY_OUT, StreamedSample
from lightning_hessian.data.training_data import draws_uniformly

__all__ = [
    "WAY_OUT",
    "BatchWeights",
    "FrozenBatch",
    "FrozenBatches",
    "Loaders",
    "StreamedSample",
    "cast_floats",
    "detached_copy",
    "draws_uniformly",
    "fetch_batches",
    "hook_owner",
    "pad_to_equal_count",
    "take_batches",
    "validation_source",
]
