"""Steps of a method, as short as it takes for them to be accepted."""

from __future__ import annotations

from lightning_hessian.records import SearchOutcome
from lightning_hessian.studies.search_ledger import SearchLedger
from lightning_hessian.studies.search_method import SearchMethod
from lightning_hessian.studies.search_state import Place, SearchState
from lightning_hessian.studies.searched_loss import Quadratic, Slope

FIRST, SHORTEST = 0.1, 1e-12
"""Length of the first step, and of those that are given up, in shares of the weights'."""


class NewtonSteps:
    """One method's way from weights on, until one of the rules ends it.

    Args:
        ledger: Of the search.
        method: Whose steps are taken.
        before: Where it begins, and the radius of the first step; where that is None it is a tenth
            of the weights' length.
        num_looks: That it has had; where it goes on it looks again at where it was.
        share: Looks that it may have; None for as many as the budget pays.

    Attributes:
        weights: Where it is.
        radius: Of the next step.
        num_looks: So far.
    """

    def __init__(
        self,
        ledger: SearchLedger,
        method: SearchMethod,
        before: SearchState,
        *,
        num_looks: int,
        share: int | None = None,
    ) -> None:
        self.weights = before.weights
        self.radius = before.radius
        self.num_looks = num_looks
        self._ledger = ledger
        self._method = method
        self._share = share
        self._is_there = num_looks > 0

    def run(self) -> SearchOutcome | None:
        """Step until it has ended; None where its share is spent."""
        ledger, price = self._ledger, self._method.price
        while True:
            with ledger.loss.at(self.weights) as slope:
                self._note(slope)
                if slope.norm < ledger.tolerance:
                    return "converged"
                if ledger.has_escaped(self.weights):
                    return "escaped"
                if self._share is not None and self.num_looks > self._share:
                    return None
                if not ledger.affords(price):
                    return "budget spent"
                model = self._method.look(ledger.loss, slope)
            if not self._advances(model):
                return "stalled"

    def state(self) -> SearchState:
        """From where the search goes on, where these steps are all of it."""
        return self._ledger.state(self.weights, self.radius)

    @property
    def place(self) -> Place:
        """Where it is."""
        return Place(self.weights, self._ledger.course[-1])

    def _note(self, slope: Slope) -> None:
        """Set down where it is; in place of the last line, where it goes on from there."""
        course = self._ledger.course
        if self._is_there:
            del course[-1]
            self.num_looks -= 1
        self._is_there = False
        course.append(self._ledger.line(slope, self._method.name))
        self.num_looks += 1
        self._ledger.tell()

    def _advances(self, model: Quadratic) -> bool:
        """Take a step; False where none is accepted, however short."""
        method, loss = self._method, self._ledger.loss
        length = self._ledger.length(self.weights)
        radius = min(self.radius or FIRST * length, method.farthest * length)
        while True:
            step = method.step(model, radius)
            if float(step.vector.norm()) <= SHORTEST * length:
                return False
            there = self.weights + step.vector
            factor = method.judge(loss, model, step, there)
            radius *= factor
            if factor >= 1:
                self.radius, self.weights = radius, there
                return True
