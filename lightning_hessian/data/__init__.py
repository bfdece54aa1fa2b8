"""Which samples the loss is measured on: the training set, streams, given loaders, their weights."""

from lightning_hessian.data.batch_weights import BatchWeights
from lightning_hessian.data.batches import FrozenBatch, FrozenBatches, fetch_batches
from lightning_hessian.data.casting import cast_floats
from lightning_hessian.data.detached import detached_copy
from lightning_hessian.data.given_data import hook_owner, take_batches, validation_source
from lightning_hessian.data.loaders import Loaders
from lightning_hessian.data.stream import WAY_OUT, Capture
from lightning_hessian.data.training_data import draws_uniformly

__all__ = [
    "WAY_OUT",
    "BatchWeights",
    "Capture",
    "FrozenBatch",
    "FrozenBatches",
    "Loaders",
    "cast_floats",
    "detached_copy",
    "draws_uniformly",
    "fetch_batches",
    "hook_owner",
    "take_batches",
    "validation_source",
]
