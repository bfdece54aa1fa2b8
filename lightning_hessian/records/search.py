"""The record of a search for a critical point."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from lightning_hessian.records.critical_point import CriticalPointReport
from lightning_hessian.records.json_values import JsonValue, to_primitives

SearchOutcome = Literal[
    "converged", "flat", "stalled", "escaped", "closed", "budget spent", "interrupted"
]
"""How a search ended; :attr:`SearchReport.outcome` has the rules."""

NO_MINIMUM = 10.0
"""Times the length that the weights began with, from which on they are said to have escaped."""
TRAJECTORY = "Newton trajectory"
"""The method's name, whose gradients count as products."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchStep:
    """Where a search was after a step that it took.

    Attributes:
        loss: With weight decay.
        gradient_norm: ``|g|``.
        num_hvps: Products spent until there.
        num_gradients: Gradients spent until there.
        method: That has come there, in words.
    """

    loss: float
    gradient_norm: float
    num_hvps: int
    num_gradients: int
    method: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodShare:
    """What one method of a search has spent.

    Attributes:
        name: In words.
        num_hvps: Products.
        num_gradients: Gradients.
    """

    name: str
    num_hvps: int
    num_gradients: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PassedPoint:
    """A critical point that was found on the way to one of another index.

    Attributes:
        index: Number of eigenvalues below a millionth of the largest, negated.
        loss: With weight decay.
        norm: Of the weights.
        num_hvps: Products spent until there.
    """

    index: int
    loss: float
    norm: float
    num_hvps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleMove:
    """How far the weights of one module were moved.

    Attributes:
        name: Of the module.
        distance: Euclidean.
        norm: Of its weights where the search began.
        norm_found: And where it ended.
    """

    name: str
    distance: float
    norm: float
    norm_found: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SearchReport:
    """What a search for a critical point has come to.

    Attributes:
        target: ``minimum``, ``nearest``, or ``index k``.
        outcome: ``converged`` where ``|g|`` is below the tolerance; ``escaped`` where ``|w|`` has
            passed ten times what it began with; ``flat`` where the search did not end in either and
            ``|g|`` is stationary, by the rule of :attr:`CriticalPointReport.kind`; ``stalled``
            where no step was found that its method takes; ``closed`` where a Newton trajectory
            came back to where it was set off; else ``budget spent`` or ``interrupted``. Where a
            critical point of another index than the wanted one was found it is ``converged``,
            however the search for the wanted one has ended.
        tolerance: Of the gradient's norm.
        weight_decay: What is in the loss of weight decay, in words.
        point: What kind of point was found; None after an interruption.
        course: A line for each step taken, the start first; along a trajectory for each ``n``
            products and gradients. The last one is of the point found.
        method: That has found it, or was searching last.
        shares: What each method has spent.
        passed: Critical points of other indices than the wanted one, in the order in which they
            were found, those of the same loss and length once.
        start_norm: ``|w|`` where the search began.
        norm: ``|w|`` where it ended.
        distance: Between these.
        moves: The same by module.
        num_hvps: Hessian-vector products spent, the last report's among them.
        num_gradients: Gradients spent.
        num_passes: Forward passes spent.
        seconds: Wall time.
    """

    target: str
    outcome: SearchOutcome
    tolerance: float
    weight_decay: str
    point: CriticalPointReport | None
    course: tuple[SearchStep, ...]
    method: str
    shares: tuple[MethodShare, ...]
    passed: tuple[PassedPoint, ...]
    start_norm: float
    norm: float
    distance: float
    moves: tuple[ModuleMove, ...]
    num_hvps: int
    num_gradients: int
    num_passes: int
    seconds: float

    @property
    def index(self) -> tuple[int, int] | None:
        """Least and largest number of eigenvalues below a millionth of the largest, negated.

        Returns:
            Both; None where the point was not looked at.
        """
        if self.point is None:
            return None
        low, high = (end * self.point.num_parameters for end in self.point.indices[1].bracket)
        return math.ceil(low - 1e-6), math.floor(high + 1e-6)

    @property
    def is_target(self) -> bool:
        """Whether it has converged to what was asked for.

        Any critical point will do for ``nearest``; for ``minimum`` one whose kind that is; for
        ``index k`` one whose bracket holds nothing but ``k``.
        """
        if self.outcome != "converged" or self.point is None:
            return False
        if self.target == "minimum":
            return self.point.kind == "minimum"
        if self.target == "nearest":
            return True
        wanted = int(self.target.removeprefix("index "))
        return self.index == (wanted, wanted)

    @property
    def verdict(self) -> str:
        """How it ended, in sentences with the numbers that this follows from."""
        text = _SENTENCES[self.outcome].format(
            norm=self.course[-1].gradient_norm,
            spent=self._spent,
            times=self._times,
            way=f"a {TRAJECTORY}" if self.method == TRAJECTORY else self.method,
            sides=" to both sides" if self.method == TRAJECTORY else "",
        )
        if self.point is not None:
            text += f" {self.point.verdict}"
            if self.outcome == "converged" and not self.is_target:
                text += f" It is not what was looked for, {self.target}."
        share = self.distance / self.start_norm if self.start_norm else math.nan
        text += f" It lies {share:.3g} times the weights' length from where the search began."
        if self.passed:
            indices = ", ".join(f"{index}" for index in sorted({one.index for one in self.passed}))
            text += f" Found of other indices: {len(self.passed)}, of index {indices}."
        return text

    @property
    def _spent(self) -> str:
        """Products, and what counts as such."""
        text = f"{self.num_hvps:,} products"
        along = sum(each.num_gradients for each in self.shares if each.name == TRAJECTORY)
        return f"{text} and {along:,} gradients along a Newton trajectory" if along else text

    @property
    def _times(self) -> float:
        return self.norm / self.start_norm if self.start_norm else math.nan

    def to_dict(self) -> dict[str, JsonValue]:
        """The report in primitives, fit for JSON, without the weights that were found.

        Returns:
            Only ``str``, ``int``, ``float``, ``bool``, ``None``, ``list`` and ``dict``.
        """
        return to_primitives(self)


_SENTENCES: dict[SearchOutcome, str] = {
    "converged": "Converged: |g| is {norm:.2g} after {spent}, by {way}.",
    "flat": (
        "Ended after {spent} where the gradient's norm, {norm:.2g}, is stationary: such "
        "a point is no critical one, however small the norm. Begin elsewhere."
    ),
    "stalled": (
        "Stalled after {spent} at |g| of {norm:.2g}: the loss does not follow its second "
        "order, as where a rectifier has a kink. Begin elsewhere."
    ),
    "escaped": (
        "Escaped{sides}: the weights are {times:.3g} times as long as at the start, and |g| is "
        "{norm:.2g}. There may be no critical point at a finite distance; `weight_decay` above "
        "zero keeps the weights from running away."
    ),
    "closed": (
        "Closed: after {spent} the curve was back where it was set off, and |g| is "
        "{norm:.2g}. It passes no critical point that was seen. Begin elsewhere."
    ),
    "budget spent": (
        "The budget was spent, {spent}, at |g| of {norm:.2g}. Go on from its state, or "
        "raise `max_hvps`."
    ),
    "interrupted": ("Interrupted after {spent}, at |g| of {norm:.2g}. It goes on from its state."),
}
