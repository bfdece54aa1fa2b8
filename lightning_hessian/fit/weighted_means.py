"""A loss that is a mean over tokens, or weighted, made that of the whole set by its own weights."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from lightning_hessian.data import FrozenBatch, FrozenBatches
from lightning_hessian.fit.groups import SAME, Open
from lightning_hessian.loss import TrainingLoss
from lightning_hessian.records import Note
from lightning_hessian.sample_losses import Divisors

MOST = 6
"""Divisors of a step that are tried."""
WEIGHTED = Note(
    "weighted-mean",
    "Training weighs samples within a batch, by their tokens or by weights. The loss is the mean "
    "over all samples by these weights, read off what the step divides by, so that it does not "
    "depend on who shares a batch; the mean of the losses that training logs is another.",
)


def weigh_by_divisors(
    open_loss: Open, frozen: FrozenBatches, other: FrozenBatches
) -> FrozenBatches | None:
    """Give the batches the weights by which the loss does not depend on who shares them.

    Of two ways to deal the same samples into batches each divisor of the step is tried as the
    weight of a batch: where loss and gradient over all of them come out the same, it is the one.
    Costs two gradients.

    Returns:
        The batches with these weights; None where no divisor is it.
    """
    one, two = (_Means.of(open_loss, batches) for batches in (frozen, other))
    for column in range(MOST):
        if one.is_same(two, column):
            batches = zip(frozen.batches, one.divisors, strict=True)
            weighted = (_weighted(batch, divisors, column) for batch, divisors in batches)
            return replace(frozen, batches=tuple(weighted))
    return None


@dataclass(frozen=True, slots=True, eq=False)
class _Means:
    """Loss and gradient over some batches, by each of their divisors as weight.

    Attributes:
        divisors: Of each batch of this process, the last ones first.
        sums: ``(MOST, n + 2)`` gradient and loss times weight, and the weight, on all processes.
        limit: Relative distance of means that are the same.
    """

    divisors: tuple[tuple[float, ...], ...]
    sums: Tensor
    limit: float

    @classmethod
    def of(cls, open_loss: Open, frozen: FrozenBatches) -> _Means:
        """By one pass over the batches."""
        found: list[tuple[float, ...]] = []
        with open_loss(frozen) as loss:
            width = loss.size + 2

            def add(payload: Tensor, index: int) -> None:
                with Divisors() as divisors:
                    output = loss.evaluate(loss.sample.batches[index])
                found.append(tuple(divisors.found[::-1][:MOST]))
                if output is not None:
                    _add(payload.view(MOST, width), loss, output, index, found[-1])

            sums = loss.sum_over_batches(MOST * width, add).view(MOST, width)
            return cls(tuple(found), sums, SAME[loss.dtype])

    def is_same(self, other: _Means, column: int) -> bool:
        """Whether loss and gradient are, by one of the divisors as weight."""
        if not (self.sums[column, -1] > 0 and other.sums[column, -1] > 0):
            return False
        own, others = (means.sums[column, :-1] / means.sums[column, -1] for means in (self, other))
        is_near = (own - others)[-1].abs() <= self.limit * own[-1].abs()
        distance = (own - others)[:-1].norm()
        return bool(is_near) and bool(distance <= self.limit * own[:-1].norm())


def _add(
    sums: Tensor, loss: TrainingLoss, output: Tensor, index: int, divisors: tuple[float, ...]
) -> None:
    # of a repeat too, in whose derivatives there may be exchanges
    nothing = [None] * len(loss.parameters.tensors)
    pieces = loss.products.differentiate(index, output) if output.requires_grad else nothing
    if loss.sample.batches[index].is_repeat:
        return
    for row, weight in zip(sums, divisors, strict=False):
        loss.parameters.add_flat(row[: loss.size], pieces, weight)
        row[-2] += weight * output.detach()
        row[-1] += weight


def _weighted(batch: FrozenBatch, divisors: tuple[float, ...], column: int) -> FrozenBatch:
    """By its divisor; a repeat, or a batch that training would skip, stays as it is."""
    if batch.is_repeat or column >= len(divisors):
        return batch
    return replace(batch, weight=divisors[column])
