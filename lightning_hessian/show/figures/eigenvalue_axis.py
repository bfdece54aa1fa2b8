"""One axis of eigenvalues for all steps of a training, and as a rule for runs of one network."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from matplotlib.axes import Axes

from lightning_hessian.records import CriticalPointReport, SpectrumReport

AnyReport = SpectrumReport | CriticalPointReport
ABOVE = 100
"""How far the axis goes to the positive side, in scales: training sharpens what it begins with."""


@dataclass(frozen=True)
class EigenvalueAxis:
    """Ends that are powers of ten.

    Attributes:
        low: Negative.
        high: Positive.
        scale: The power of ten above the magnitude that the training begins with.
    """

    low: float
    high: float
    scale: float

    def apply(self, axes: Axes, which: Literal["x", "y"], *, linear: float) -> None:
        """Make an axis of a panel this one: linear below so many scales, logarithmic beyond."""
        if which == "x":
            axes.set_xscale("asinh", linear_width=linear * self.scale)
            axes.set_xlim(self.low, self.high)
        else:
            axes.set_yscale("asinh", linear_width=linear * self.scale)
            axes.set_ylim(self.low, self.high)


def eigenvalue_axis(reports: Sequence[AnyReport], *, below: float) -> EigenvalueAxis:
    """The axis for a series of reports, which only a later one beyond its ends makes longer.

    Args:
        reports: In order; those without eigenvalues do not count.
        below: How far it goes to the negative side, in scales.

    Returns:
        The axis.
    """
    found = [ends for ends in map(_ends, reports) if ends]
    powers = (_power_above(map(abs, ends)) for ends in found)
    scale = next((power for power in powers if power), 1.0)
    every = [value for ends in found for value in ends]
    low = max(below * scale, _power_above(-value for value in every))
    high = max(ABOVE * scale, _power_above(every))
    return EigenvalueAxis(low=-low, high=high, scale=scale)


def _ends(report: AnyReport) -> tuple[float, ...]:
    values = (*report.largest.values[:1].tolist(), *report.smallest.values[:1].tolist())
    return tuple(value for value in values if math.isfinite(value))


def _power_above(values: Iterable[float]) -> float:
    """The least power of ten that none of some values passes; 0 where none is positive."""
    largest = max(values, default=0.0)
    return 10.0 ** math.ceil(math.log10(largest)) if largest > 0 else 0.0
