"""Frozen samples in the batches that sampling errors need, where the loss stays the same."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch

from lightning_hessian.data import FrozenBatches
from lightning_hessian.errors import InterruptedMeasurementError, RefusedError, RestorationError
from lightning_hessian.loss import TrainingLoss
from lightning_hessian.options import LossSetup
from lightning_hessian.records import Note

NUM_GROUPS = 12
"""Enough for the scatter of a mean (Student's t of 2.2), few enough to cost no time by themselves.
"""
FEW_BATCHES = 4
"""For as many processes a whole training set is fused to the same batches."""
LARGEST = 8
"""Batches of the training in one group: what memory is taken to have room for."""
TOGETHER = Note(
    "depends-on-batches",
    "The loss depends on which samples share a batch (means over tokens or weights, contrastive "
    "losses, statistics of the batch): it is that of the training's batch size and of one "
    "partition of the samples. Sampling errors, and with them the intervals of the largest "
    "eigenvalue and the trace, are read off the scatter of three or more batches, which holds that "
    "of the partition and that of the samples, also where all samples are measured.",
)
_IF_IT_DOES = (
    "If it does, the numbers are those of one partition of the samples, and no error holds how far "
    "another's may be."
)
SAME = {torch.float32: 1e-4, torch.float64: 1e-8}
"""Of the gradient's norm, by which that of the groups may differ: roundings, and nothing else."""

Open = Callable[[FrozenBatches], AbstractContextManager[TrainingLoss]]


def may_regroup(setup: LossSetup) -> bool:
    """Whether a batch is not what the user wants it to be, and samples do not meet in it."""
    is_fixed = setup.loss.batch_size is not None or setup.loss.weight_fn is not None
    return not is_fixed and setup.mode == "eval" and setup.derivatives == "required"


def group_size(
    setup: LossSetup, frozen: FrozenBatches, trained: int | None, share: int
) -> int | None:
    """Samples to a group, or None to leave the batches as training has them.

    Of a part of the training set it takes groups to see how far the rest may be, where that is
    read off their scatter. The whole set needs none, and is fused to few large batches, the same
    for any number of processes that these are enough for.

    Args:
        setup: Asked by :func:`may_regroup`.
        frozen: The samples, of all processes, in batches as training has them.
        trained: Samples in a batch of the training; None where samples cannot be regrouped.
        share: Number of processes.
    """
    if trained is None or not may_regroup(setup):
        return None
    count, wanted = frozen.num_samples, NUM_GROUPS
    if count == frozen.population or not setup.reads_scatter:
        if count <= FEW_BATCHES * trained:
            return None
        wanted = FEW_BATCHES
    size = min(math.ceil(count / max(wanted, share)), LARGEST * trained)
    return None if size == trained else size


def not_cut(error: RefusedError) -> Note:
    """Of batches that cannot be cut, and so not compared with others of their samples."""
    return Note(
        "batches-not-cut",
        f"It was not seen whether the loss depends on who shares a batch, as {error} {_IF_IT_DOES}",
    )


def is_same_loss(open_loss: Open, frozen: FrozenBatches, grouped: FrozenBatches) -> bool | Note:
    """Whether the loss is a mean over samples, so that it matters not who shares a batch.

    Loss and gradient over all frozen samples are compared; costs two gradients. A note where the
    step fails on the groups.
    """
    with open_loss(frozen) as loss:
        alone = loss.gradient()
    try:
        with open_loss(grouped) as loss:
            together, limit = loss.gradient(), SAME[loss.dtype]
    except (RestorationError, InterruptedMeasurementError):
        raise
    except Exception as error:
        # a step may be written for batches of one size
        return Note(
            "batches-of-one-size",
            "The step fails on batches of other sizes than the training's "
            f"({type(error).__name__}: {error}), so that it was not seen whether the loss depends "
            f"on who shares a batch. {_IF_IT_DOES}",
        )
    is_close = abs(together.loss - alone.loss) <= limit * abs(alone.loss)
    distance = float((together.vector - alone.vector).norm())
    return is_close and distance <= limit * float(alone.vector.norm())
