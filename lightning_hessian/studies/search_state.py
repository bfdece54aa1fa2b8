"""From where a search for a critical point goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from torch import Tensor

from lightning_hessian.records import PassedPoint, SearchStep
from lightning_hessian.studies.newton_trajectory import Trajectory

TurnKind = Literal["following", "descending", "tracing", "polishing"]
CurveEnd = Literal["closed", "lost", "escaped"]


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Weights that a search has come to.

    Attributes:
        weights: ``(n,)`` float64.
        step: Of the search's course.
    """

    weights: Tensor
    step: SearchStep


@dataclass(frozen=True, slots=True, eq=False)
class SaddleTurn:
    """Whose turn it is in a search for a saddle of a wanted index, and what all turns share.

    Attributes:
        kind: Of the turn.
        num_looks: Hessians that a method of steps has had in it.
        num_units: Products and gradients that the trajectory has had in it.
        num_traced: Turns that the trajectory has had before.
        trajectory: As far as it was followed.
        ends: How it has ended to one side, where it is followed to the other.
        best: Of the critical points found, that whose index is nearest to the wanted one.
        passed: Those of other indices.
    """

    kind: TurnKind = "following"
    num_looks: int = 0
    num_units: int = 0
    num_traced: int = 0
    trajectory: Trajectory | None = None
    ends: tuple[CurveEnd, ...] = ()
    best: Place | None = None
    passed: tuple[PassedPoint, ...] = ()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SaddleTurn:
        """What ``asdict`` has made of one."""
        curve, best = values["trajectory"], values["best"]
        known = {
            "trajectory": curve and Trajectory.from_dict(curve),
            "best": best and Place(best["weights"], SearchStep(**best["step"])),
            "passed": tuple(PassedPoint(**each) for each in values["passed"]),
        }
        return cls(**{**values, **known})

    def to(self, like: Tensor) -> SaddleTurn:
        """The same on another tensor's device."""
        curve, best = self.trajectory, self.best
        return replace(
            self,
            trajectory=curve and curve.to(like),
            best=best and replace(best, weights=best.weights.to(like)),
        )


@dataclass(frozen=True, slots=True, eq=False)
class SearchState:
    """From where a search goes on, fit for ``torch.save``.

    Attributes:
        target: Of the search, as in its report.
        start: ``(n,)`` float64, the weights where it began.
        weights: ``(n,)`` float64, where it is.
        radius: Of the next step; None before the first.
        course: So far.
        num_hvps: So far, and likewise for gradients, forward passes and seconds.
        num_gradients: So far.
        num_passes: So far.
        seconds: So far.
        turn: Of a search for a saddle of a wanted index; with a trajectory it holds ``(n, n)``.
    """

    target: str
    start: Tensor
    weights: Tensor
    radius: float | None = None
    course: tuple[SearchStep, ...] = ()
    num_hvps: int = 0
    num_gradients: int = 0
    num_passes: int = 0
    seconds: float = 0.0
    turn: SaddleTurn | None = None

    def to_dict(self) -> dict[str, Any]:
        """In tensors and primitives, as ``torch.load(..., weights_only=True)`` reads them.

        Returns:
            By field name.
        """
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SearchState:
        """What :meth:`to_dict` described.

        Args:
            values: By field name.

        Returns:
            An equal state.
        """
        course = tuple(SearchStep(**each) for each in values["course"])
        turn = values["turn"] and SaddleTurn.from_dict(values["turn"])
        return cls(**{**values, "course": course, "turn": turn})

    def to(self, like: Tensor) -> SearchState:
        """Move it.

        Args:
            like: Of the device and the precision that are wanted.

        Returns:
            The same on another tensor's device.
        """
        turn = self.turn and self.turn.to(like)
        return replace(self, start=self.start.to(like), weights=self.weights.to(like), turn=turn)
