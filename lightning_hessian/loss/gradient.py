"""The gradient of the training loss, and which losses have none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from lightning_hessian.errors import IndependentLossError, RefusedError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gradient:
    """The loss and its gradient at the present parameters.

    Attributes:
        loss: Mean over the frozen samples, float64 arithmetic.
        vector: ``(n,)`` float64.
        unused: Names of parameters that no batch's loss depends on; their entries are zero.
    """

    loss: float
    vector: Tensor
    unused: tuple[str, ...]


def refuse_unusable(
    total_weight: float, used: Sequence[bool], names: Sequence[str], *, num_batches: int
) -> None:
    """Refuse a loss that every batch is skipped by, or that no parameter moves."""
    if total_weight == 0:
        raise RefusedError(
            f"`training_step` returned None for each of the {num_batches} frozen batches, so there "
            "is no loss to measure. Raise `num_samples`, or return a loss."
        )
    if not any(used):
        raise IndependentLossError(
            "the training loss does not depend on any selected parameter: "
            f"{', '.join(names[:5])}. Was it computed under `torch.no_grad()`, from detached "
            "tensors, or from parameters that something outside of the module holds, when copies "
            "took their place for another precision? Otherwise select others by `parameters=`."
        )
