"""Which pictures of a series of reports are drawn: one takes as long as a small measurement."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from lightning_hessian.records import Report
from lightning_hessian.show.figures.style import rasterize
from lightning_hessian.show.report_figures import COURSES, Figures

R = TypeVar("R", bound=Report)
Images = dict[str, npt.NDArray[np.uint8]]
"""Last part of the tag to ``(height, width, 3)``."""


class Gallery(Generic[R]):
    """Draws the first picture of each kind, the second, fourth, eighth and so on, and the last.

    So a fit of any length has the pictures of its start and its end, and a slider as long as its
    logarithm. With ``draws_all`` each report's own are drawn, and only courses, which hold what the
    one before held, by this rule. ``draw`` names the figures that go with the latest of reports.
    """

    def __init__(self, draw: Callable[[Sequence[R]], Figures]) -> None:
        self._draw = draw
        self._seen: Counter[str] = Counter()
        self._undrawn: Figures = {}

    def next(self, reports: Sequence[R], *, draws_all: bool) -> Images:
        """The pictures to show of the latest report, given all so far."""
        figures = self._draw(reports)
        self._seen.update(figures.keys())
        new = {name: figure for name, figure in figures.items() if self._is_next(name, draws_all)}
        self._undrawn = {name: figure for name, figure in figures.items() if name not in new}
        return _drawn(new)

    def last(self) -> Images:
        """Those that the latest report was not shown by, as no other comes."""
        undrawn, self._undrawn = self._undrawn, {}
        return _drawn(undrawn)

    def _is_next(self, name: str, draws_all: bool) -> bool:
        number = self._seen[name]
        return (draws_all and name not in COURSES) or number & (number - 1) == 0


def _drawn(figures: Figures) -> Images:
    return {name: rasterize(figure()) for name, figure in figures.items()}
