"""Points in weight space by energy and index: what they are, and which of them are the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from examples.band_claims import Floats
from examples.index_problem import Task
from lightning_hessian.options import Krylov, PointOptions
from lightning_hessian.records.critical_point import CRITICAL_NORM, NEAR
from lightning_hessian.studies import CriticalPointStudy

Source = Literal["embedded", "searched", "small gradient", "descent"]
"""A narrower minimum made wider; a search for an index; a descent of |g|; one of the loss."""

NEGATIVE = 1e-6
"""Share of the largest magnitude, below the negative of which an eigenvalue counts as negative."""
SAME_ENERGY, SAME_SPECTRUM = 1e-8, 1e-5
"""Up to which two points are one: the latter as a share of the largest magnitude."""
PASSES, FAKE = 1e-6, 0.5
"""Of ``|g|^2``: Pennington and Bahri's criterion. Of ``r(1 %)``: above it nothing is near."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IndexPoint:
    """A point, in the loss ``2 epsilon + decay |w|^2 / 2``.

    Attributes:
        source: Where it is from.
        decay: The weight decay.
        energy: ``epsilon``, without the decay.
        gradient_norm: ``|g|``.
        gradient_left: ``r(1 %)``; ``nan`` at weights of zero.
        norm: ``|w|``.
        spectrum: ``(p,)`` all eigenvalues, ascending.
    """

    source: Source
    decay: float
    energy: float
    gradient_norm: float
    gradient_left: float
    norm: float
    spectrum: Floats

    @property
    def index(self) -> float:
        """``alpha``, the share of negative eigenvalues."""
        return float((self.spectrum < -NEGATIVE * abs(self.spectrum).max()).mean())

    @property
    def is_critical(self) -> bool:
        """A gradient that is rounding, and less than 5 % of it left within 1 % of the weights."""
        # weights of zero have no length to take a share of
        is_near = self.gradient_left < NEAR or math.isnan(self.gradient_left)
        return self.gradient_norm < CRITICAL_NORM and is_near

    @property
    def passes(self) -> bool:
        """Whether it is a critical point by Pennington and Bahri's criterion."""
        return self.gradient_norm**2 < PASSES

    @property
    def is_fake(self) -> bool:
        """Whether it passes, and no critical point is near."""
        return self.passes and self.gradient_left > FAKE

    def is_same(self, other: IndexPoint) -> bool:
        """Equal up to a permutation of hidden units and their signs, as far as can be seen."""
        if abs(self.energy - other.energy) > SAME_ENERGY:
            return False
        scale = abs(self.spectrum).max()
        return bool(abs(self.spectrum - other.spectrum).max() <= SAME_SPECTRUM * scale)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, without the spectrum."""
        return {
            "source": self.source,
            "weight_decay": self.decay,
            "energy": self.energy,
            "index": self.index,
            "gradient_norm": self.gradient_norm,
            "gradient_left": None if math.isnan(self.gradient_left) else self.gradient_left,
            "norm": self.norm,
        }


def point(task: Task, weights: Tensor, *, decay: float, source: Source) -> IndexPoint:
    """Measure one; costs as many products as there are parameters, and a dense Hessian."""
    solver = Krylov(max_hvps=len(weights))
    options = PointOptions(weight_decay=decay, escape=False, solver=solver)
    with task.opened(weights) as loss:
        report = CriticalPointStudy(options, seed=0).measure(loss)
    gradient, hessian = task.derivatives(weights, decay)
    return IndexPoint(
        source=source,
        decay=decay,
        energy=float(task.energy(weights)),
        gradient_norm=float(gradient.norm()),
        gradient_left=report.gradient_left,
        norm=float(weights.norm()),
        spectrum=torch.linalg.eigvalsh(hessian).cpu().numpy(),
    )


def distinct(points: Sequence[IndexPoint]) -> list[IndexPoint]:
    """One of each that are the same, by ascending energy."""
    kept: list[IndexPoint] = []
    for each in sorted(points, key=lambda found: found.energy):
        near = [other for other in kept if each.energy - other.energy <= SAME_ENERGY]
        if not any(each.is_same(other) for other in near):
            kept.append(each)
    return kept
