"""How long a fit is to be, in samples, as far as the Trainer was told."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from lightning_hessian.data import Drawing, Loaders
from lightning_hessian.fit.steps import Steps

STOPS_EARLY = frozenset({"EarlyStopping", "Timer"})


@dataclass(frozen=True, slots=True, kw_only=True)
class FitLength:
    """What a fit trains on from its first batch to its last, before it was resumed too.

    Attributes:
        num_batches: Batches that each process takes in all; infinity without an end in sight.
        num_done: Of these, taken already as the fit goes on from a checkpoint.
        batch_size: Samples of one batch of all processes together.
        accumulation: Batches to an optimiser step.
        batches_per_epoch: Of each process; infinity for a stream.
        num_checkpoints: About how many will be saved.
        population: Samples in the training set, where it has a length.
        may_end_early: Whether something watches that may stop it: a metric or a clock.
    """

    num_batches: float
    num_done: int = 0
    batch_size: float
    accumulation: int = 1
    batches_per_epoch: float = math.inf
    num_checkpoints: int = 0
    population: int | None = None
    may_end_early: bool = False

    @property
    def num_samples(self) -> float:
        """Sample gradients of the whole training; infinity without an end in sight."""
        return self.num_batches * self.batch_size

    @property
    def has_end(self) -> bool:
        """Whether it is known how long it is going to be."""
        return math.isfinite(self.num_batches) and not self.may_end_early

    @classmethod
    def of(cls, trainer: Trainer) -> FitLength:
        """What the Trainer knows when training starts."""
        per_epoch = float(trainer.num_training_batches)
        accumulation = int(trainer.accumulate_grad_batches)
        by_epochs = by_steps = math.inf
        if trainer.max_epochs not in (None, -1):
            by_epochs = per_epoch * trainer.max_epochs
        if trainer.max_steps != -1:
            by_steps = trainer.max_steps * accumulation
        num_batches = min(by_epochs, by_steps)
        size, population = _sizes(trainer)
        return cls(
            num_batches=num_batches,
            num_done=_batches_done(trainer, per_epoch),
            batch_size=size * trainer.world_size,
            accumulation=accumulation,
            batches_per_epoch=per_epoch,
            num_checkpoints=_checkpoints(trainer, num_batches, per_epoch),
            population=population,
            may_end_early=any(map(_stops_early, trainer.callbacks)),  # type: ignore[attr-defined]
        )


def _sizes(trainer: Trainer) -> tuple[float, int | None]:
    """Samples of a batch of one process, one where it is not said, and of the training set."""
    leaves = Loaders.of_training(trainer).leaves
    sizes = [_batch_size(leaf) for leaf in leaves]
    dataset = getattr(leaves[0], "dataset", None) if len(leaves) == 1 else None
    try:
        population = len(dataset)  # type: ignore[arg-type]
    except (TypeError, NotImplementedError):  # a stream, or nothing at all
        population = None
    return max([size for size in sizes if size], default=1), population


def _batch_size(loader: Any) -> int | None:
    size = getattr(loader, "batch_size", None)
    if isinstance(size, int):
        return size
    return Drawing.of(loader).step_size if isinstance(loader, DataLoader) else None


def _batches_done(trainer: Trainer, per_epoch: float) -> int:
    steps = Steps.of(trainer).logged_step
    if math.isfinite(per_epoch):
        batch = trainer.fit_loop.epoch_loop.batch_progress.current.completed
        done = int(trainer.current_epoch * per_epoch) + int(batch % max(per_epoch, 1))
        return done if steps else 0
    return int(steps * trainer.accumulate_grad_batches)


def _checkpoints(trainer: Trainer, num_batches: float, per_epoch: float) -> int:
    """Those that Lightning's savers make by steps or epochs; ten of those by the clock."""
    most = 0.0
    for saver in trainer.checkpoint_callbacks:
        by_steps = getattr(saver, "_every_n_train_steps", 0)
        by_epochs = getattr(saver, "_every_n_epochs", 0)
        if by_steps:
            count = num_batches / (by_steps * trainer.accumulate_grad_batches)
        elif by_epochs:
            count = num_batches / per_epoch / by_epochs
        else:
            count = 10
        most = max(most, count if math.isfinite(count) else 10)
    return math.ceil(most)


def _stops_early(callback: object) -> bool:
    return any(kind.__name__ in STOPS_EARLY for kind in type(callback).__mro__)
