"""How far the optimiser is from the curvature that it cannot stand any more."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from lightning_hessian.records.output import derived, shown

STABLE, BEYOND = 1.2, 0.8
"""Margins above which a step is stable, and below which it is not, by the linear model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StabilityMargin:
    """The largest eigenvalue as the optimiser's steps see it, and the threshold that it has.

    Attributes:
        sharpness: ``lambda_max(D^(1/2) (H + W) D^(1/2))``, with the step sizes ``D`` and the weight
            decay ``W`` of the next step; no unit.
        bound: An eigenvalue lies within this distance of it.
        interval: 95 % interval of the sharpness, as that of the full training set; None where it is
            not known, as with step sizes that differ.
        threshold: ``c``, above which a small step away from a minimum grows.
        largest_eigenvalue: The eigenvalue of ``H`` that would be at the threshold, where all
            parameters have one step size and one decay; else ``nan``.
        optimizer: Its kind and settings, in words.
        num_hvps: Products that it took.
    """

    sharpness: float = field(
        metadata=shown(
            "sharpness",
            doc="largest eigenvalue of the Hessian as scaled by the optimiser's step sizes",
            group="details",
        )
    )
    bound: float = field(
        metadata=shown(
            "sharpness_bound", error_of="sharpness", doc="an eigenvalue lies within this distance"
        )
    )
    threshold: float = field(
        metadata=shown(
            "threshold", doc="of it, above which the optimiser's steps grow", group="details"
        )
    )
    largest_eigenvalue: float = field(
        default=math.nan,
        metadata=shown(
            "eig_1",
            doc="largest eigenvalue that the optimiser could stand, where all step sizes are one",
            unit="loss per squared parameter unit",
        ),
    )
    interval: tuple[float, float] | None = field(
        default=None,
        metadata=shown(
            "sharpness_lower",
            "sharpness_upper",
            error_of="sharpness",
            doc="95 % interval, as that of the full training set, where all step sizes are one",
        ),
    )
    optimizer: str = ""
    num_hvps: int = 0

    @derived(shown("margin", doc="threshold over sharpness: below 1 steps grow, to first order"))
    def margin(self) -> float:
        """``c / sharpness``; infinite where nothing is convex, or the learning rate is zero."""
        return self.threshold / self.sharpness if self.sharpness > 0 else math.inf

    @derived(shown("verdict", doc="the margin in words", kind="text"))
    def verdict(self) -> str:
        """In words; that a run hovers about its threshold is usual."""
        if math.isinf(self.margin):
            return f"Stable: no curvature stands against the steps of {self.optimizer}."
        times = f"{self.sharpness:.3g} of {self.threshold:.3g}, a margin of {self.margin:.2g}x"
        words = f"{self._kind_of(self.sharpness)}: {times}, for {self.optimizer}."
        if self.interval is None or len({self._kind_of(end) for end in self.interval}) == 1:
            return words
        low, high = self.interval
        return f"{words} Open for the whole training set, where it is {low:.3g} to {high:.3g}."

    def _kind_of(self, sharpness: float) -> str:
        if sharpness < self.threshold / STABLE:
            return "Stable"
        if sharpness <= self.threshold / BEYOND:
            return "At the edge of stability"
        return "Beyond the edge of stability, by the linear model"
