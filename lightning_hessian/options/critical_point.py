"""What a critical point is asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from lightning_hessian.options.checks import check_flag, is_number
from lightning_hessian.options.solver import Krylov

WeightDecay = float | Literal["none", "optimizer"]
"""What of ``w.W w / 2`` is in the loss: a number for all parameters, nothing, or what the optimiser
has in its gradients."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PointOptions:
    """What is wanted of a point.

    Attributes:
        escape: Whether to follow the most negative direction.
        weight_decay: What is counted as part of the loss.
        solver: Of the sweep.

    Raises:
        ValueError: If an option is out of its range.
    """

    escape: bool = True
    weight_decay: WeightDecay = "none"
    solver: Krylov = field(default_factory=Krylov)

    def __post_init__(self) -> None:
        check_flag("escape", self.escape)
        check_weight_decay(self.weight_decay)
        if not isinstance(self.solver, Krylov):
            raise ValueError(
                f"`solver` of `CriticalPoint` must be a `Krylov`, got {self.solver!r}. Write "
                "`solver=Krylov()` for the default."
            )
        if self.solver.precision == "bfloat16":
            raise ValueError(
                "`solver` of `CriticalPoint` must not have `precision='bfloat16'`: a gradient is "
                "compared with products of as many digits. Leave it out."
            )


def check_weight_decay(decay: object) -> None:
    """Refuse what is none.

    Args:
        decay: As given.

    Raises:
        ValueError: If it is neither of the words nor a number of at least 0.
    """
    is_share = isinstance(decay, int | float) and is_number(decay) and decay >= 0
    if decay not in ("none", "optimizer") and not is_share:
        raise ValueError(
            "`weight_decay` must be 'none', 'optimizer' for what the optimiser adds to its "
            f"gradients, or a number of at least 0, got {decay!r}."
        )
