"""The record of a gradient of the training loss."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


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
