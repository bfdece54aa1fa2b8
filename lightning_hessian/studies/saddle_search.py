"""A search for a saddle of a wanted index: eigenvectors and a Newton trajectory take turns."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Literal

from torch import Tensor

from lightning_hessian.records import (
    TRAJECTORY,
    CriticalPointReport,
    PassedPoint,
    SearchOutcome,
    SearchStep,
)
from lightning_hessian.studies.eigenvector_following import eigenvector_following
from lightning_hessian.studies.index_preserving_newton import index_preserving_newton
from lightning_hessian.studies.levenberg_marquardt import levenberg_marquardt
from lightning_hessian.studies.newton_steps import NewtonSteps
from lightning_hessian.studies.newton_trajectory import (
    CORRECTIONS,
    Trajectory,
    advance,
    set_off,
    turned,
    zero_between,
)
from lightning_hessian.studies.search_ledger import SearchLedger
from lightning_hessian.studies.search_method import SearchMethod
from lightning_hessian.studies.search_state import (
    CurveEnd,
    Place,
    SaddleTurn,
    SearchState,
    TurnKind,
)

FOLLOWED, DESCENDED, POLISHED = 140, 20, 10
"""Hessians for a turn of eigenvector following, of the descent of ``|g|``, at a zero of ``s``."""
TRACED = 10
"""Hessians' worth of products and gradients for the first turn of a trajectory. Each further turn
has twice as many: where eigenvectors have led nowhere once, the curve is the better bet."""

SAME = 1e-6
"""Relative difference between losses and lengths up to which two critical points count as one."""


class SaddleSearch:
    """Turns of eigenvector following and of a Newton trajectory, until a saddle is found.

    Eigenvectors are followed first. Where that has not led to a saddle of the index, a curve is set
    off, at a point that Levenberg and Marquardt's descent of ``|g|`` has come to from the start:
    curves through points of small gradient meet critical points more often. It is followed to one
    side, and then to the other; where its ``s`` has changed sign it has passed a critical point,
    which Newton's steps lead to. After each turn of the curve eigenvectors are followed from where
    it is.

    Args:
        ledger: Of the search.
        index: That is wanted.
        before: From where it goes on.
        describe: The report of a point at given weights.

    Attributes:
        best_report: Of the best point; None where it was found before the search went on.
    """

    def __init__(
        self,
        ledger: SearchLedger,
        index: int,
        before: SearchState,
        describe: Callable[[Tensor], CriticalPointReport],
    ) -> None:
        self._weights = before.weights
        self._radius = before.radius
        self._turn = before.turn or SaddleTurn()
        self._running: NewtonSteps | None = None
        self.best_report: CriticalPointReport | None = None
        self._ledger = ledger
        self._loss = ledger.loss
        self._index = index
        self._start = before.start
        self._describe = describe

    def run(self) -> SearchOutcome:
        """Take turns until one of them ends it; it has converged where any point was found."""
        turns: dict[TurnKind, Callable[[], SearchOutcome | None]] = {
            "following": self._follow,
            "descending": self._descend,
            "tracing": self._trace,
            "polishing": self._polish,
        }
        while True:
            outcome = turns[self._turn.kind]()
            if outcome is not None:
                return "converged" if self._turn.best is not None else outcome

    def state(self) -> SearchState:
        """From where the search goes on."""
        self._take_over()
        return self._ledger.state(self._weights, self._radius, self._turn)

    @property
    def place(self) -> Place:
        """The best critical point that was found; where there is none, where it is."""
        turn, ledger = self._turn, self._ledger
        if turn.best is not None:
            return turn.best
        if turn.kind == "tracing" and turn.trajectory is not None:
            here = turn.trajectory.here
            return Place(here.weights, ledger.line(here.slope, TRAJECTORY))
        return Place(self.state().weights, ledger.course[-1])

    def _follow(self) -> SearchOutcome | None:
        """Up along as many eigenvectors as the index says."""
        end = self._steps(eigenvector_following(self._index, self._loss.size), FOLLOWED)
        if end == "found" or end == "budget spent":
            return _OUTCOMES[end]
        curve = self._turn.trajectory
        if curve is not None:
            self._give_turn("tracing", curve.here.weights)
        elif end == "converged":
            self._give_turn("tracing", self._weights)
        else:
            self._give_turn("descending", self._start)
        return None

    def _descend(self) -> SearchOutcome | None:
        """Down the gradient's norm, to where the curve is set off."""
        end = self._steps(levenberg_marquardt(self._loss.size), DESCENDED)
        if end == "found" or end == "budget spent":
            return _OUTCOMES[end]
        self._give_turn("tracing", self._weights)
        return None

    def _polish(self) -> SearchOutcome | None:
        """To the critical point that the curve has passed, and back to the curve."""
        whole = index_preserving_newton(self._loss.size)
        method = replace(whole, name=TRAJECTORY, look=lambda loss, slope: loss.in_full(slope))
        end = self._steps(method, POLISHED)
        if end == "found" or end == "budget spent":
            return _OUTCOMES[end]
        curve = self._turn.trajectory
        assert curve is not None
        self._give_turn("tracing", curve.here.weights, self._turn.num_units)
        return None

    def _trace(self) -> SearchOutcome | None:
        """Along the curve, until its share is spent, or it has passed a zero, or has ended."""
        share = TRACED * self._loss.size * 2**self._turn.num_traced
        # a refused step has its corrections, a further gradient and a Hessian
        while self._ledger.affords(self._loss.size + CORRECTIONS + 1):
            curve, ends = self._turn.trajectory, self._turn.ends
            if curve is None:
                self._set_off()
            elif (end := self._end_of(curve)) is not None:
                if end == "closed" or ends:
                    return _OUTCOMES["lost" if "lost" in ends else end]
                self._turn_round(curve, end)
            elif self._turn.num_units >= share:
                self._turn = replace(self._turn, num_traced=self._turn.num_traced + 1)
                self._give_turn("following", curve.here.weights)
                return None
            else:
                self._advance(curve)
                if self._turn.kind == "polishing":
                    return None
        return "budget spent"

    def _steps(self, method: SearchMethod, share: int) -> SearchOutcome | Literal["found"] | None:
        """Take the steps of a method, and look at the critical point where they converge."""
        self._running = NewtonSteps(
            self._ledger, method, self.state(), num_looks=self._turn.num_looks, share=share
        )
        end = self._running.run()
        self._take_over()
        return "found" if end == "converged" and self._is_wanted() else end

    def _take_over(self) -> None:
        """Be where the running steps are."""
        steps = self._running
        if steps is not None:
            self._weights, self._radius = steps.weights, steps.radius
            self._turn = replace(self._turn, num_looks=steps.num_looks)

    def _is_wanted(self) -> bool:
        """Look at a critical point, and keep it where no other's index was nearer."""
        turn, step, norm = self._turn, self._ledger.course[-1], float(self._weights.norm())
        if any(_are_copies(other, step, norm) for other in turn.passed):
            return False
        report = self._describe(self._weights)
        # all eigenvalues are counted of so few parameters
        index = round(report.indices[1].fraction * report.num_parameters)
        away = abs(index - self._index)
        if all(abs(other.index - self._index) > away for other in turn.passed):
            turn = replace(turn, best=Place(self._weights, step))
            self.best_report = report
        if away:
            point = PassedPoint(index=index, loss=step.loss, norm=norm, num_hvps=step.num_hvps)
            turn = replace(turn, passed=(*turn.passed, point))
        self._turn = turn
        return away == 0

    def _give_turn(self, kind: TurnKind, weights: Tensor, num_units: int = 0) -> None:
        """Begin a turn, from weights on."""
        self._running = None
        self._weights, self._radius = weights, None
        self._turn = replace(self._turn, kind=kind, num_looks=0, num_units=num_units)

    def _set_off(self) -> None:
        """Begin the curve where it is."""
        length, tolerance = self._ledger.length(self._weights), self._ledger.tolerance
        curve, units = self._paid(
            lambda: set_off(
                self._loss, self._weights, length, tolerance=tolerance, index=self._index
            )
        )
        self._be_at(curve, replace(self._turn, trajectory=curve), units)

    def _turn_round(self, curve: Trajectory, end: CurveEnd) -> None:
        """Go on from the curve's origin to its other side."""
        length = self._ledger.length(curve.origin)
        other, units = self._paid(lambda: turned(self._loss, curve, length))
        self._be_at(other, replace(self._turn, trajectory=other, ends=(end,)), units)

    def _advance(self, curve: Trajectory) -> None:
        """Try a step of the curve; where it has passed a zero of ``s`` that is looked at next."""
        length = self._ledger.length(curve.here.weights)
        there, units = self._paid(lambda: advance(self._loss, curve, length))
        turn = replace(self._turn, trajectory=there)
        self._be_at(there, turn, units, zero_between(curve.here, there.here))

    def _paid(self, compute: Callable[[], Trajectory]) -> tuple[Trajectory, int]:
        """A curve, and what it has cost; its gradients are charged too."""
        loss = self._loss
        products, gradients = loss.num_products, loss.num_gradients
        curve = compute()
        gradients = loss.num_gradients - gradients
        self._ledger.num_charged += gradients
        return curve, loss.num_products - products + gradients

    def _be_at(
        self, curve: Trajectory, turn: SaddleTurn, cost: int, zero: Tensor | None = None
    ) -> None:
        """Be on the curve, or at a zero; set down where it is after each Hessian's worth of it."""
        size, units = self._loss.size, turn.num_units + cost
        is_due = units // size > turn.num_units // size
        turn = replace(turn, num_units=units, kind="tracing" if zero is None else "polishing")
        weights = curve.here.weights if zero is None else zero
        # at once, so that nothing is lost where it goes on from a state
        self._weights, self._radius, self._turn = weights, None, turn
        if is_due:
            self._ledger.course.append(self._ledger.line(curve.here.slope, TRAJECTORY))
            self._ledger.tell()

    def _end_of(self, curve: Trajectory) -> CurveEnd | None:
        """Whether a curve goes on to this side."""
        has_escaped = self._ledger.has_escaped(curve.here.weights)
        return curve.ended or ("escaped" if has_escaped else None)


def _are_copies(point: PassedPoint, step: SearchStep, norm: float) -> bool:
    """Whether a point is one that was passed, or of permuted units, or of other signs."""
    is_close = partial(math.isclose, rel_tol=SAME, abs_tol=SAME)
    return is_close(point.loss, step.loss) and is_close(point.norm, norm)


_OUTCOMES: dict[str, SearchOutcome] = {
    "found": "converged",
    "budget spent": "budget spent",
    "closed": "closed",
    "escaped": "escaped",
    "lost": "stalled",
}
