"""The course and the account of a search for a critical point."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from lightning_hessian.records import NO_MINIMUM, SearchStep
from lightning_hessian.studies.search_state import SaddleTurn, SearchState
from lightning_hessian.studies.searched_loss import SearchedLoss, Slope


class SearchLedger:
    """What a search has seen and spent, and what it may spend.

    Args:
        loss: That is searched.
        before: What was seen and spent before.
        budget: Products that may be spent from now on.
        tolerance: Norm of the gradient at which the search has converged.
        tell: Called after each line of the course.

    Attributes:
        loss: As given.
        tolerance: As given.
        tell: As given.
        course: So far.
        num_charged: Gradients that count as products, from now on.
    """

    def __init__(
        self,
        loss: SearchedLoss,
        before: SearchState,
        budget: int,
        tolerance: float,
        tell: Callable[[], None],
    ) -> None:
        self.loss = loss
        self.tolerance = tolerance
        self.tell = tell
        self.course = list(before.course)
        self.num_charged = 0
        self._before = before
        self._budget = budget
        self._start_norm = float(before.start.norm()) or 1.0
        self._started = time.perf_counter()

    def affords(self, price: int) -> bool:
        """Whether the budget has room for as many products."""
        return self.loss.num_products + self.num_charged + price <= self._budget

    def line(self, slope: Slope, method: str) -> SearchStep:
        """Where a method has come to, at the present account."""
        return SearchStep(
            loss=slope.loss,
            gradient_norm=slope.norm,
            num_hvps=self._before.num_hvps + self.loss.num_products,
            num_gradients=self._before.num_gradients + self.loss.num_gradients,
            method=method,
        )

    def length(self, weights: Tensor) -> float:
        """Of the weights, or of those that it began with where these are longer."""
        return max(self._start_norm, float(weights.norm()))

    def has_escaped(self, weights: Tensor) -> bool:
        """Whether weights are so long that there may be nothing to be found."""
        return float(weights.norm()) > NO_MINIMUM * self._start_norm

    def state(
        self, weights: Tensor, radius: float | None, turn: SaddleTurn | None = None
    ) -> SearchState:
        """From where the search goes on."""
        before, loss = self._before, self.loss
        return replace(
            before,
            weights=weights,
            radius=radius,
            course=tuple(self.course),
            num_hvps=before.num_hvps + loss.num_products,
            num_gradients=before.num_gradients + loss.num_gradients,
            num_passes=before.num_passes + loss.num_passes,
            seconds=before.seconds + time.perf_counter() - self._started,
            turn=turn,
        )
