"""Newton trajectories: curves along which the gradient keeps its direction."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from lightning_hessian.errors import NonFiniteError
from lightning_hessian.studies.searched_loss import SearchedLoss, Slope

FIRST, FARTHEST, SHORTEST = 0.02, 0.3, 1e-8
"""First step, longest and shortest, in shares of the weights' length."""
CORRECTIONS = 8
NEAR, FAR, SLOW = 1e-3, 0.5, 0.8
"""A correction by which a point counts as on the curve and by which it is too far off it, in shares
of the step; and how much of the one before must be gone."""
BEND, STRAIGHT, FEW = 0.85, 0.95, 4
"""Cosine between tangents below which a step is refused; and that and the corrections up to which
the next is longer."""
LONGER, SHORTER = 1.4, 0.5
PATIENCE = 2
"""Refusals in a row after which the Hessian is computed."""
FLAT = 1e-12
"""Of the largest curvature: what counts as none where a tangent is computed."""
MIXED = 0.1
"""Of all eigenvectors, in the direction in which a curve leaves a critical point along one."""
CLOSE = 0.1
"""Share of a step within which a curve that passes where it began has closed."""


@dataclass(frozen=True, slots=True, eq=False)
class CurvePoint:
    """A point of a curve ``g(w) = s r``.

    Attributes:
        weights: ``(n,)`` float64, ``w``.
        slope: Loss and gradient there.
        scale: ``s = r.g``.
        tangent: ``(n,)``, ``dw`` of length one.
        rate: ``ds`` to it, ``H dw = r ds``.
        hessian: ``(n, n)`` symmetric; computed, or followed by secants since.
    """

    weights: Tensor
    slope: Slope
    scale: float
    tangent: Tensor
    rate: float
    hessian: Tensor

    def to(self, like: Tensor) -> CurvePoint:
        """The same on another tensor's device."""
        return replace(
            self,
            weights=self.weights.to(like),
            slope=replace(self.slope, gradient=self.slope.gradient.to(like)),
            tangent=self.tangent.to(like),
            hessian=self.hessian.to(like),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Trajectory:
    """A curve as far as it was followed, fit for ``torch.save``.

    Attributes:
        direction: ``(n,)`` of length one, ``r``.
        origin: ``(n,)``, where it was set off.
        scale: ``s`` there; zero where that is a critical point.
        heading: ``(n,)``, the tangent there.
        here: Where it is.
        step: Length of the next step.
        distance: Followed from the origin, in lengths of weights.
        num_refused: Steps refused in a row.
        ended: ``closed`` where it is back at its origin, ``lost`` where no step is accepted,
            however short; None where it goes on.
    """

    direction: Tensor
    origin: Tensor
    scale: float
    heading: Tensor
    here: CurvePoint
    step: float
    distance: float = 0.0
    num_refused: int = 0
    ended: Literal["closed", "lost"] | None = None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Trajectory:
        """What ``asdict`` has made of one."""
        here = values["here"]
        point = CurvePoint(**{**here, "slope": Slope(**here["slope"])})
        return cls(**{**values, "here": point})

    def to(self, like: Tensor) -> Trajectory:
        """The same on another tensor's device."""
        return replace(
            self,
            direction=self.direction.to(like),
            origin=self.origin.to(like),
            heading=self.heading.to(like),
            here=self.here.to(like),
        )


def set_off(
    loss: SearchedLoss, weights: Tensor, length: float, *, tolerance: float, index: int
) -> Trajectory:
    """A curve through weights, towards shorter gradients; costs a Hessian and a gradient.

    Curves of every direction pass a critical point. There one is chosen that leaves, upwards in
    ``s``, along the eigenvector whose curvature changes its sign first on the way to an index, with
    a tenth of all others, lest it stays where a symmetry of the loss holds it.

    Args:
        loss: That is searched.
        weights: ``(n,)``.
        length: By which steps are measured.
        tolerance: Norm of the gradient below which the weights are a critical point.
        index: That is wanted.

    Returns:
        The curve, at its origin.
    """
    slope, hessian, pairs = _look(loss, weights)
    if slope.norm < tolerance:
        direction, scale, sign = _leaving(*pairs, index), 0.0, 1.0
    else:
        direction, scale, sign = slope.gradient / slope.norm, slope.norm, -1.0
    tangent, rate = _first_tangent(*pairs, direction)
    here = CurvePoint(weights, slope, scale, sign * tangent, sign * rate, hessian)
    return Trajectory(direction, weights, scale, sign * tangent, here, FIRST * length)


def turned(loss: SearchedLoss, curve: Trajectory, length: float) -> Trajectory:
    """The same curve from its origin to the other side; costs a Hessian and a gradient."""
    slope, hessian, pairs = _look(loss, curve.origin)
    tangent, rate = _first_tangent(*pairs, curve.direction)
    # a curve begins upwards at a critical point, and downwards at any other
    sign = -1.0 if curve.scale == 0 else 1.0
    here = CurvePoint(curve.origin, slope, curve.scale, sign * tangent, sign * rate, hessian)
    return Trajectory(
        curve.direction, curve.origin, curve.scale, sign * tangent, here, FIRST * length
    )


def advance(loss: SearchedLoss, curve: Trajectory, length: float) -> Trajectory:
    """Try a step along a curve, by a predictor and its corrections.

    A step goes along the tangent and then, by Newton's method across it, back to the curve:

        [ H    -r ] [dw]     [g - s r]
        [ dw0'  0 ] [ds] = - [   0   ],   dw0 the tangent.

    ``H`` follows the gradients seen by Powell's symmetric update, so that a step that is taken
    costs some two to eight gradients, and is computed anew where two steps in a row were refused.
    At a turning point of ``s`` it is singular; the bordered matrix is not.

    Args:
        loss: That is searched.
        curve: So far.
        length: By which steps are measured.

    Returns:
        The curve with a further point; or with a shorter next step; or ended.

    References:
        F. H. Branin (1972), "Widely convergent method for finding multiple solutions of
        simultaneous nonlinear equations", IBM J. Res. Dev. 16, 504; W. Quapp, M. Hirsch, O. Imig,
        D. Heidrich (1998), "Searching for saddle points of potential energy surfaces by following a
        reduced gradient", J. Comput. Chem. 19, 1087 (the curve); M. J. D. Powell (1970), in
        "Nonlinear Programming", 31 (the update); E. L. Allgower, K. Georg (1990), "Numerical
        Continuation Methods", Springer (predictor and corrector).
    """
    there, hessian, num_corrections = _next_point(loss, curve)
    if there is None:
        return _refused(loss, replace(curve, here=replace(curve.here, hessian=hessian)), length)
    factor = LONGER if num_corrections <= FEW and _cosine(curve, there) > STRAIGHT else 1.0
    moved = float((there.weights - curve.here.weights).norm())
    return replace(
        curve,
        here=there,
        step=min(factor * curve.step, FARTHEST * length),
        distance=curve.distance + moved,
        num_refused=0,
        ended="closed" if _has_closed(curve, there) else None,
    )


def zero_between(one: CurvePoint, other: CurvePoint) -> Tensor | None:
    """Weights between two points of a curve at which its gradient vanishes, to first order.

    Returns:
        ``(n,)``; None where ``s`` has kept its sign.
    """
    if one.scale * other.scale >= 0:
        return None
    return torch.lerp(one.weights, other.weights, one.scale / (one.scale - other.scale))


def _look(loss: SearchedLoss, weights: Tensor) -> tuple[Slope, Tensor, tuple[Tensor, Tensor]]:
    """Loss and gradient, the Hessian, and its eigenpairs."""
    with loss.at(weights) as slope:
        hessian = loss.hessian()
    values, vectors = torch.linalg.eigh(hessian)
    return slope, hessian, (values, vectors)


def _leaving(values: Tensor, vectors: Tensor, index: int) -> Tensor:
    """Mostly the eigenvector whose curvature changes its sign first on the way to an index."""
    count = int((values < 0).sum())
    place = count if count < index else count - 1
    chosen = vectors[:, min(max(place, 0), len(values) - 1)]
    direction: Tensor = chosen + MIXED * math.sqrt(len(values)) * vectors.mean(dim=1)
    return direction / float(direction.norm())


def _first_tangent(values: Tensor, vectors: Tensor, direction: Tensor) -> tuple[Tensor, float]:
    """``dw`` of length one and ``ds > 0`` with ``H dw = r ds``."""
    flat = FLAT * float(values.abs().max())
    steep = torch.where(values.abs() > flat, values, torch.full_like(values, flat or 1.0))
    image = vectors @ ((vectors.T @ direction) / steep)
    return image / image.norm(), 1 / float(image.norm())


def _next_point(loss: SearchedLoss, curve: Trajectory) -> tuple[CurvePoint | None, Tensor, int]:
    """The next point, if the step is taken; the Hessian as known by then; how many corrections."""
    here, step = curve.here, curve.step
    weights, scale = here.weights + step * here.tangent, here.scale + step * here.rate
    hessian, before, seen, size = here.hessian, here.weights, here.slope, FAR * step
    for count in range(CORRECTIONS):
        try:
            slope = loss.slope_at(weights)
        except NonFiniteError:
            break
        hessian = _updated(hessian, weights - before, slope.gradient - seen.gradient)
        before, seen = weights, slope
        system = _bordered(hessian, curve.direction, here.tangent)
        change, by = _solved(system, scale * curve.direction - slope.gradient, 0.0)
        size, last = float(change.norm()), size
        if size < NEAR * step:
            ahead, rate = _solved(system, torch.zeros_like(weights), 1.0)
            norm = float(ahead.norm())
            # weights that stay where they are say nothing of the last scale
            scale = float(curve.direction @ slope.gradient)
            point = CurvePoint(weights, slope, scale, ahead / norm, rate / norm, hessian)
            return (point if _cosine(curve, point) > BEND else None), hessian, count
        # not a number is not less
        if not size < (SLOW * last if count else last):
            break
        weights, scale = weights + change, scale + by
    return None, hessian, CORRECTIONS


def _refused(loss: SearchedLoss, curve: Trajectory, length: float) -> Trajectory:
    """A shorter step next, after a second refusal by the Hessian itself."""
    curve = replace(curve, step=SHORTER * curve.step, num_refused=curve.num_refused + 1)
    if curve.step < SHORTEST * length:
        return replace(curve, ended="lost")
    if curve.num_refused % PATIENCE:
        return curve
    here = curve.here
    with loss.at(here.weights):
        hessian = loss.hessian()
    system = _bordered(hessian, curve.direction, here.tangent)
    ahead, rate = _solved(system, torch.zeros_like(here.weights), 1.0)
    norm = float(ahead.norm())
    if not math.isfinite(norm):
        return replace(curve, ended="lost")
    exact = replace(here, hessian=hessian, tangent=ahead / norm, rate=rate / norm)
    return replace(curve, here=exact)


def _cosine(curve: Trajectory, point: CurvePoint) -> float:
    """Between the tangents of where it is and of a next point."""
    return float(curve.here.tangent @ point.tangent)


def _has_closed(curve: Trajectory, there: CurvePoint) -> bool:
    """Whether it passes its origin on the way to a next point, as it did when it was set off."""
    chord = there.weights - curve.here.weights
    to_origin = curve.origin - curve.here.weights
    share = float(to_origin @ chord) / float(chord @ chord)
    away = float((to_origin - share * chord).norm())
    is_ahead = 0 < share <= 1 and float(chord @ curve.heading) > 0
    return is_ahead and away < CLOSE * float(chord.norm())


def _updated(hessian: Tensor, moved: Tensor, change: Tensor) -> Tensor:
    """The nearest symmetric matrix that makes this change of the gradient of this move."""
    square = moved @ moved
    error = change - hessian @ moved
    cross = torch.outer(error, moved) / square
    return hessian + cross + cross.T - (error @ moved) / square**2 * torch.outer(moved, moved)


def _bordered(hessian: Tensor, direction: Tensor, tangent: Tensor) -> Tensor:
    """``[[H, -r], [dw', 0]]``."""
    size = len(tangent)
    system = hessian.new_zeros(size + 1, size + 1)
    system[:size, :size], system[:size, size], system[size, :size] = hessian, -direction, tangent
    return system


def _solved(system: Tensor, right: Tensor, last: float) -> tuple[Tensor, float]:
    """Changes of weights and scale."""
    found, info = torch.linalg.solve_ex(system, torch.cat([right, right.new_tensor([last])]))
    if int(info):
        # a singular matrix: with what is not a number no step is taken
        found = torch.full_like(found, math.nan)
    return found[:-1], float(found[-1])
