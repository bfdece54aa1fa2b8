"""Which samples the loss is measured on: training set, streams, given loaders, weights."""

from lightning_hessian.data.casting import cast_floats
from lightning_hessian.data.detached import detached_copy
from lightning_hessian.data.drawing import (
    Drawing,
    draws_uniformly,
    is_ordered,
)
from lightning_hessian.data.equal_count import pad_to_equal_count
from lightning_hessian.data.fetch import fetch_batches
from lightning_hessian.data.frozen import FrozenBatch, FrozenBatches
from lightning_hessian.data.given_data import hook_owner, take_batches, validation_source
from lightning_hessian.data.loaders import Loaders
from lightning_hessian.data.plan import TrainingData, plan_batches, shuffled
from lightning_hessian.data.step_batches import (
    FEWEST_STEPS,
    StepBatches,
    StepPlan,
    plan_of_steps,
    steps_of_stream,
)
from lightning_hessian.data.stream import WAY_OUT, StreamedSample
from lightning_hessian.data.weights import BatchWeights, weight_by

__all__ = [
    "FEWEST_STEPS",
    "WAY_OUT",
    "BatchWeights",
    "Drawing",
    "FrozenBatch",
    "FrozenBatches",
    "Loaders",
    "StepBatches",
    "StepPlan",
    "StreamedSample",
    "TrainingData",
    "cast_floats",
    "detached_copy",
    "draws_uniformly",
    "fetch_batches",
    "hook_owner",
    "is_ordered",
    "pad_to_equal_count",
    "plan_batches",
    "plan_of_steps",
    "shuffled",
    "steps_of_stream",
    "take_batches",
    "validation_source",
    "weight_by",
]
