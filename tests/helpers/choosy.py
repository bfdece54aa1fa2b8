"""Steps that take batches of some sizes only, as steps with mixup or with reshapes do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.nn import functional as F

BATCH = 8
"""Samples in a batch of the training."""
Loss = Callable[[Tensor, Any], Tensor]
"""Of outputs and a batch."""


def mean(outputs: Tensor, batch: Any) -> Tensor:
    return F.cross_entropy(outputs, batch[1])


def summed(outputs: Tensor, batch: Any) -> Tensor:
    return F.cross_entropy(outputs, batch[1], reduction="sum")


def unreadable(outputs: Tensor, batch: Any) -> Tensor:
    """A mean that is written so that the losses of single samples cannot be read off it."""
    each = F.cross_entropy(outputs, batch[1], reduction="none")
    return each @ each.new_ones(len(each)) / len(each)


def weighted(outputs: Tensor, batch: Any) -> Tensor:
    weights = outputs.new_tensor([0.5, 1.0, 2.5])
    return F.cross_entropy(outputs, batch[1], weights)


def pairs(outputs: Tensor, batch: Any) -> Tensor:
    """Each sample beside its mirror image in the batch."""
    return F.cross_entropy(0.7 * outputs + 0.3 * outputs.flip(0), batch[1])


def even(batch: Any) -> None:
    assert len(batch[0]) % 2 == 0, "the batch size must be even"


def full(batch: Any) -> None:
    batch[0].reshape(BATCH, 4)


def several(batch: Any) -> None:
    batch[0].squeeze().shape[1]


def choosy(takes: Callable[[Any], None], loss: Loss) -> Callable[[Any, Any], Tensor]:
    """A step of a module with a network, which fails on batches of other sizes."""

    def step(module: Any, batch: Any) -> Tensor:
        takes(batch)
        return loss(module.network(batch[0]), batch)

    return step
