"""A spin glass's index against energy, laid over the losses of real critical points: a fit."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares

from lightning_hessian.theory.choromanska_2015 import index_share, threshold_energy

Array = npt.NDArray[np.float64]
FEWEST = 5
"""Points, of two parameters and their errors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyFit:
    """Shift and scale by which losses become energies of a spin glass, ``u = (L - c) / s``.

    No theory gives them, so that any band of losses can be put into the theory's. What is tested is
    one shape, that of a semicircle's distribution; the depth enters by the unit of ``u`` alone and
    cannot be told from it.

    Attributes:
        depth: ``H``, as assumed.
        shift: ``c``, in units of the loss.
        shift_standard_error: By leaving out one point after the other.
        scale: ``s``, in units of the loss, positive.
        scale_standard_error: Likewise.
        rms: Root mean square distance of the shares to the fitted law.
        line_rms: That to a straight line, cut off at zero, with as many parameters.
        num_points: How many were fitted.
    """

    depth: int
    shift: float
    shift_standard_error: float
    scale: float
    scale_standard_error: float
    rms: float
    line_rms: float
    num_points: int

    @property
    def tells_from_line(self) -> bool:
        """Whether the law is nearer to the points than a straight line."""
        return self.rms < self.line_rms

    def energies(self, losses: npt.ArrayLike) -> Array:
        """``u = (L - c) / s``.

        Args:
            losses: Any shape.

        Returns:
            Of the same shape.
        """
        return (np.asarray(losses, dtype=np.float64) - self.shift) / self.scale

    def __str__(self) -> str:
        """One line, as a title has it."""
        words = "nearer than" if self.tells_from_line else "no nearer than"
        return (
            f"a fit of shift {self.shift:.4g} ± {self.shift_standard_error:.2g} and scale "
            f"{self.scale:.4g} ± {self.scale_standard_error:.2g}: off by {self.rms:.3g}, {words} a "
            f"straight line ({self.line_rms:.3g})"
        )


def fit_energies(losses: npt.ArrayLike, shares: npt.ArrayLike, depth: int) -> EnergyFit:
    """Fit ``alpha = F((L - c) / (s E_inf))`` of :func:`index_share` to critical points.

    Least squares in the shares, errors by the jackknife. A correlation of index and energy is no
    proof of critical points, as other points of the same path show it too: see that each is one
    before it comes in here.

    Args:
        losses: ``(m,)`` of critical points, at least 5 and not all equal.
        shares: ``(m,)`` of their negative eigenvalues, from 0 to 1.
        depth: ``H``, the layers of weights, at least 2.

    Returns:
        The fit, beside that of a straight line.

    Raises:
        ValueError: If an argument is out of its range, or the shares do not rise with the losses.

    Example:
        >>> losses = np.linspace(0.3, 0.9, 12)
        >>> fit = fit_energies(losses, index_share((losses - 0.8) / 0.25, 3), 3)
        >>> f"{fit.shift:.4f} {fit.scale:.4f}", fit.rms < 1e-8, fit.tells_from_line
        ('0.8000 0.2500', True, True)
    """
    x, y = np.asarray(losses, dtype=np.float64), np.asarray(shares, dtype=np.float64)
    _check(x, y)
    width = threshold_energy(depth)
    centre, half, misfit = _best(x, y)
    left_out = np.array(
        [_nearest(np.delete(x, i), np.delete(y, i), [(centre, half)])[:2] for i in range(len(x))]
    )
    errors = np.sqrt((len(x) - 1) * left_out.var(axis=0))
    slope, height = np.polyfit(x, y, 1)
    line = least_squares(
        lambda p: np.maximum(p[0] + p[1] * (x - x.mean()), 0) - y,
        [height + slope * x.mean(), slope],
    )
    return EnergyFit(
        depth=depth,
        shift=centre,
        shift_standard_error=float(errors[0]),
        scale=half / width,
        scale_standard_error=float(errors[1]) / width,
        rms=misfit,
        line_rms=_root_mean_square(line.fun),
        num_points=len(x),
    )


def _best(x: Array, y: Array) -> tuple[float, float, float]:
    """Centre and half width of the semicircle's distribution nearest to points, and the misfit."""
    extent = float(np.ptp(x)) or 1.0
    # t of F(t) = y, and its straight line against x, over points inside of the semicircle
    t = np.linspace(-1, 1, 401)
    inside = (y > 0) & (y < 1)
    places = np.interp(y, index_share(t * math.sqrt(2), 2), t)
    starts = [(float(x.max()), extent)]
    if inside.sum() > 1 and np.ptp(x[inside]) > 0:
        slope, height = np.polyfit(x[inside], places[inside], 1)
        if slope > 0:
            starts.append((-height / slope, 1 / slope))

    return _nearest(x, y, starts)


def _nearest(x: Array, y: Array, starts: list[tuple[float, float]]) -> tuple[float, float, float]:
    """The same from given starts."""

    def misfits(p: Array) -> Array:
        # for two layers E_inf is sqrt 2
        return index_share(math.sqrt(2) * (x - p[0]) / math.exp(p[1]), 2) - y

    found = [least_squares(misfits, [c, math.log(h)], xtol=1e-13, ftol=1e-13) for c, h in starts]
    best = min(found, key=lambda each: float(each.cost))
    return float(best.x[0]), math.exp(best.x[1]), _root_mean_square(best.fun)


def _root_mean_square(values: Array) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def _check(x: Array, y: Array) -> None:
    if x.ndim != 1 or x.shape != y.shape or len(x) < FEWEST:
        raise ValueError(
            f"`losses` and `shares` must be two vectors of one length, at least {FEWEST}, got "
            f"shapes {x.shape} and {y.shape}. Find more critical points."
        )
    if not (np.isfinite(x).all() and ((y >= 0) & (y <= 1)).all()):
        raise ValueError(
            "`losses` must be finite and `shares` from 0 to 1, got losses from "
            f"{x.min():.4g} to {x.max():.4g} and shares from {y.min():.4g} to {y.max():.4g}."
        )
    if np.ptp(x) == 0 or np.ptp(y) == 0 or np.polyfit(x, y, 1)[0] <= 0:
        raise ValueError(
            "`shares` must rise with `losses` to be those of a spin glass, which they do not here. "
            "Points that are all minima have no index to fit."
        )
