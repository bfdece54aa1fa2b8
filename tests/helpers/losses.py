"""A training loss over given batches, without a fit around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lightning_hessian.data import FrozenBatch, FrozenBatches
from lightning_hessian.hvp import ExactProducts
from lightning_hessian.loss import ParameterSelection, TrainingLoss
from lightning_hessian.records import Mode
from lightning_hessian.sandbox import Sandbox


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
    with Sandbox(module, mode=mode, seed=1, dtype=dtype) as sandbox:
        selection = ParameterSelection.of(module, patterns)
        yield TrainingLoss(
            lambda data, _: step(data), frozen, selection, sandbox, products=ExactProducts
        )
