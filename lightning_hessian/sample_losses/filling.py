"""How some samples become a batch of a size that the step takes: by copies of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import gcd

import torch

from lightning_hessian.data import FrozenBatch
from lightning_hessian.errors import (
    InterruptedMeasurementError,
    NonFiniteError,
    RefusedError,
    RestorationError,
    UntakenBatchError,
)
from lightning_hessian.loss import TrainingLoss
from lightning_hessian.processes import on_all_or_none
from lightning_hessian.records import Separability
from lightning_hessian.sample_losses.rows import rows_of

NOT_THE_STEPS = (
    *(RestorationError, InterruptedMeasurementError, RefusedError, NonFiniteError),
    *(torch.OutOfMemoryError, MemoryError),
)
"""Errors that do not tell of batches which the step does not take."""


@dataclass(frozen=True, slots=True)
class Filling:
    """The sizes of batches that the step takes, and how samples are brought to one of them.

    Where a sample stands several times in a batch, as often as all others, the mean over the batch
    is that over the samples.

    Attributes:
        unit: Its multiples are taken.
        is_only: Whether it is the only size instead.
    """

    unit: int = 1
    is_only: bool = False

    def copies(self, count: int) -> int:
        """How often each of so many samples stands in their batch."""
        return self.unit // (count if self.is_only else gcd(self.unit, count))

    def most(self, count: int) -> int:
        """Of how many samples, at most so many, a batch can be made."""
        if not self.is_only:
            return count
        return max(size for size in divisors(self.unit) if size <= count)

    def num_parts(self) -> int:
        """Into how few parts a batch can be cut, each of which becomes one."""
        return divisors(self.unit)[1] if self.is_only and self.unit > 1 else 2

    def some_of(self, batch: FrozenBatch, rows: Sequence[int]) -> FrozenBatch:
        """Some samples of a batch; the one sample of a batch that has not several.

        So that each process evaluates as often as the others.
        """
        if batch.num_samples > 1:
            return rows_of(batch, [*rows] * self.copies(len(rows)))
        return batch if self.unit == 1 else rows_of(batch, [0] * self.unit)

    def whole(self, batch: FrozenBatch) -> FrozenBatch:
        """All samples of a batch, in their order, and perhaps again."""
        count = batch.num_samples
        if self.is_only and self.unit % count:
            raise UntakenBatchError(
                f"the step takes batches of {self.unit} samples only, but a frozen one has {count}."
            )
        return batch if self.copies(count) == 1 else self.some_of(batch, range(count))

    def share(self, count: int, separability: Separability | None) -> float:
        """What the loss of a batch of so many samples, with copies, is to be multiplied by."""
        return 1 / self.copies(count) if separability == "sum" else 1.0


AS_IT_IS = Filling()
"""Any number of samples is a batch that the step takes."""


def divisors(number: int) -> list[int]:
    """All of them, ascending."""
    return [size for size in range(1, number + 1) if number % size == 0]


def failure_on(
    loss: TrainingLoss, batch: FrozenBatch, rows: Sequence[int] | None = None
) -> Exception | None:
    """What the step raises on a batch or on rows of it, on any process; None where it takes it."""

    def attempt() -> None:
        loss.evaluate(batch if rows is None else rows_of(batch, rows))

    try:
        on_all_or_none(loss.processes, attempt)
    except NonFiniteError:
        return None
    except NOT_THE_STEPS:
        raise
    except Exception as error:
        return error
    return None


def named(error: Exception) -> str:
    """An error with its kind."""
    return f"{type(error).__name__}: {error}"


def find_filling(loss: TrainingLoss, error: Exception) -> Filling:
    """Find out batches of which sizes the step takes, after it has failed on some.

    It is tried on copies of one sample, as many as divide the training's batch size, from one on.
    Costs an evaluation for each, and two more.

    Args:
        loss: Whose step it is.
        error: That it raised.

    Raises:
        Exception: The error itself, if it is not seen to hang on the size.
        UntakenBatchError: If there is no size by which samples can be measured alone.
    """
    batch = max(loss.sample.batches, key=lambda batch: batch.num_samples)
    size = loss.processes.broadcast(batch.num_samples)
    failures = dict(_failures(loss, batch, size))
    taken = [tried for tried, failure in failures.items() if failure is None]
    if taken:
        unit = taken[0]
        if unit == size:
            return Filling(size, is_only=True)
        larger = [unit * number for number in (2, 3) if unit * number <= size]
        if all(failure_on(loss, batch, [0] * number) is None for number in larger):
            if unit == 1:
                raise error
            return Filling(unit)
        if failure_on(loss, batch, [0] * size) is None:
            return Filling(size, is_only=True)
    tried = ", ".join(str(number) for number in failures)
    raise UntakenBatchError(
        f"the step takes no batch that a sample can be measured in alone: it fails on {tried} "
        f"copies of one ({named(error)}), where training has batches of {size} samples. What a "
        "sample adds cannot be told. Define `hessian_loss(self, batch, batch_idx)`, which takes "
        "batches of any size."
    ) from error


def refuse_untaken(error: Exception, filling: Filling) -> UntakenBatchError:
    """The refusal of a step that fails on some batches, though it takes others of their size."""
    sizes = f"of {filling.unit} samples" if filling.is_only else f"of multiples of {filling.unit}"
    return UntakenBatchError(
        f"the step does not take the batches that single samples are measured in: it was seen to "
        f"take batches {sizes}, but fails on others of these sizes ({named(error)}). Define "
        "`hessian_loss(self, batch, batch_idx)`, which takes batches of any size."
    )


def refuse_some(error: Exception) -> UntakenBatchError:
    """The refusal of a step that takes one sample alone, but not any, and not only once."""
    return UntakenBatchError(
        f"the step fails on batches that samples are measured in ({named(error)}), and failed so "
        "before, though it takes copies of one sample, and training's batches. Define "
        "`hessian_loss(self, batch, batch_idx)`, which takes any samples."
    )


def _failures(
    loss: TrainingLoss, batch: FrozenBatch, size: int
) -> Iterator[tuple[int, Exception | None]]:
    """What the step raises on copies of a sample, up to the first number that it takes."""
    for number in divisors(size):
        failure = failure_on(loss, batch, [0] * number)
        yield number, failure
        if failure is None:
            return
