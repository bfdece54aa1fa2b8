"""A training loss over given batches, without a fit around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lightning_hessian.data import FrozenBatch, FrozenBatches
from lightning_hessian.hvp import open_loss
from lightning_hessian.loss import TrainingLoss
from lightning_hessian.records import Mode


@contextmanager
def opened(
    module: nn.Module,
    step: Callable[[Any], Tensor | None],
    batches: Sequence[Any] = (None,),
    *,
    weights: Sequence[float] | None = None,
    dtype: torch.dtype = torch.float64,
    mode: Mode = "eval",
    patterns: Sequence[str] | None = None,
) -> Iterator[TrainingLoss]:
    """The mean of ``step`` over the batches, by weight, as a function of the module's parameters.

    Each has weight one unless told otherwise.
    """
    shares = [1.0] * len(batches) if weights is None else weights
    frozen = FrozenBatches(
        tuple(
            FrozenBatch(data, weight, index, 1)
            for index, (data, weight) in enumerate(zip(batches, shares, strict=True))
        ),
        len(batches),
        "given batches",
    )
    with open_loss(
        module,
        lambda data, _: step(data),
        frozen,
        mode=mode,
        seed=1,
        dtype=dtype,
        parameters=patterns,
    ) as loss:
        yield loss
