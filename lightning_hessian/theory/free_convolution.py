"""The spectrum of a sum of two matrices in free position, from the spectra of the two.

Free additive convolution by subordination: there is ``w(z)``, ``Im w >= Im z``, with
``G(z) = G_1(w)``, and it is the fixed point of ``w = z + h_2(z + h_1(w))``,
``h = 1 / G - z`` (Belinschi and Bercovici 2007). Iterating that map alone is unreliable near the
real axis: here Newton's method follows the solution down from far above it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Complex = npt.NDArray[np.complex128]
TOP = 1e4
"""Where a solution is followed down from, in units of the spread of the sum."""
BOTTOM = 1e-14
"""Where integrals along the imaginary axis begin, in the same units."""
STEPS_PER_DECADE = 10
NUM_NODES = 200
"""Of Gauss and Legendre, in the logarithm of the height."""
TOLERANCE = 2e-12
MAX_ITERATIONS = 2000
DAMPING, DAMPED_EVERY = 0.7, 20


@dataclass(frozen=True, slots=True, eq=False)
class DiscreteMeasure:
    """Eigenvalues with weights: all of a small matrix, or nodes of a quadrature by Lanczos.

    Attributes:
        values: ``(n,)``.
        weights: ``(n,)``, positive; they add up to 1.

    Raises:
        ValueError: If shapes differ, a value is not finite, or weights are no shares of 1.
    """

    values: Array
    weights: Array

    def __post_init__(self) -> None:
        shares = np.asarray(self.weights)
        if np.shape(self.values) != shares.shape or shares.ndim != 1 or not shares.size:
            raise ValueError(
                "`values` and `weights` must be two vectors of one length, got shapes "
                f"{np.shape(self.values)} and {shares.shape}."
            )
        if not (np.isfinite(self.values).all() and (shares >= 0).all()):
            raise ValueError("`values` must be finite and `weights` not negative. Leave out `nan`.")
        if not math.isclose(shares.sum(), 1, rel_tol=1e-9):
            raise ValueError(
                f"`weights` must add up to 1, got {shares.sum():.10g}. Divide them by their sum."
            )

    @classmethod
    def of(cls, values: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> DiscreteMeasure:
        """Of eigenvalues that count alike, or by their weights, which are made to add up to 1.

        Args:
            values: ``(n,)``.
            weights: ``(n,)``.

        Returns:
            The measure.
        """
        places = np.asarray(values, dtype=np.float64)
        shares = np.ones_like(places) if weights is None else np.asarray(weights, dtype=np.float64)
        return cls(places, shares / shares.sum())

    @property
    def mean(self) -> float:
        """``tau(A)``."""
        return float(self.weights @ self.values)

    @property
    def variance(self) -> float:
        """``tau(A^2) - tau(A)^2``."""
        return float(self.weights @ (self.values - self.mean) ** 2)

    def mass_at(self, x: float, *, within: float) -> float:
        """What lies that near to a place."""
        return float(self.weights[np.abs(self.values - x) <= within].sum())

    def stieltjes(self, z: Complex) -> tuple[Complex, Complex]:
        """``G(z) = sum w_j / (z - t_j)`` and its derivative, ``(n,)`` each."""
        inverse = 1 / (z[:, None] - self.values)
        return inverse @ self.weights, -(inverse**2) @ self.weights

    def increment(self, z: Complex) -> tuple[Complex, Complex]:
        """``h(z) = 1 / G(z) - z`` and its derivative, ``(n,)`` each.

        Near the spectrum as it stands, which keeps all digits next to an eigenvalue. Far away,
        where that is the difference of two large numbers (at a zero of the other part's ``G``), by
        ``T(z) = sum w_j (t_j - m) / (z - t_j)`` about the mean ``m`` as ``-m - T / G``.

        Args:
            z: ``(n,)`` complex.

        Returns:
            Both.
        """
        inverse = 1 / (z[:, None] - self.values)
        terms = np.stack([self.weights, self.weights * (self.values - self.mean)], axis=1)
        value, about = (inverse @ terms).T
        fall, about_fall = (inverse * inverse @ terms).T
        is_far = np.abs(z) > abs(self.mean) + 2 * math.sqrt(self.variance)
        square = value * value
        far = (-self.mean - about / value, (about_fall * value - about * fall) / square)
        near = (1 / value - z, fall / square - 1)
        return np.where(is_far, far[0], near[0]), np.where(is_far, far[1], near[1])


class FreeSum:
    """The free additive convolution of two measures.

    Args:
        first: Spectrum of one matrix.
        second: Spectrum of the other.

    Example:
        Twice ``+-1`` is the arcsine law, of which a third lies between -1 and 1:

        >>> signs = DiscreteMeasure.of([-1.0, 1.0])
        >>> f"{FreeSum(signs, signs).share_below(1.0):.8f}"
        '0.66666667'
    """

    def __init__(self, first: DiscreteMeasure, second: DiscreteMeasure) -> None:
        self.first = first
        self.second = second
        self.mean = first.mean + second.mean
        """Of the sum."""
        self.variance = first.variance + second.variance
        """Of the sum."""
        self._unit = math.sqrt(self.variance) or 1.0

    def atom_at(self, x: float) -> float:
        """The mass at a place: ``A({a}) + B({b}) - 1`` where ``a + b = x``, if that is positive.

        Eigenvalues within ``1e-12`` of the sum's spread of each other count as one.

        Args:
            x: The place.

        Returns:
            A share of 1.
        """
        within = 1e-12 * self._unit
        masses = (
            self.first.mass_at(value, within=within)
            + self.second.mass_at(x - value, within=within)
            - 1
            for value in self.first.values
        )
        return max(0.0, *masses)

    def share_below(self, x: float) -> float:
        """The mass of ``(-inf, x)``: one of :meth:`shares_below`.

        Args:
            x: The place.

        Returns:
            A share of 1.

        Raises:
            ArithmeticError: If the solution is lost on the way down.
        """
        return float(self.shares_below([x])[0])

    def shares_below(self, x: npt.ArrayLike) -> Array:
        """The masses of ``(-inf, x)``, without smoothing.

        ``1/2 + int_0^inf Re G(x + iy) dy / pi`` counts half of what sits at ``x`` itself.

        Args:
            x: ``(n,)`` places.

        Returns:
            ``(n,)`` shares of 1, to about ``1e-8`` where the density is bounded at ``x``.

        Raises:
            ArithmeticError: If the solution is lost on the way down.
        """
        places = np.asarray(x, dtype=np.float64)
        nodes, weights = np.polynomial.legendre.leggauss(NUM_NODES)
        low, high = math.log(BOTTOM), math.log(TOP)
        # from the top down
        heights = self._unit * np.exp((high + low) / 2 - (high - low) / 2 * nodes)
        inside, solution = np.zeros_like(places), self._start(places)
        for height, weight in zip(heights, weights, strict=True):
            solution = self._solve(places + 1j * height, solution)
            inside += weight * height * self.first.stieltjes(solution)[0].real
        beyond = np.arctan((places - self.mean) / (TOP * self._unit))
        atoms = np.array([self.atom_at(place) for place in places])
        return np.asarray(0.5 + ((high - low) / 2 * inside + beyond) / math.pi - atoms / 2)

    def quantized(self, cuts: npt.ArrayLike) -> DiscreteMeasure:
        """The sum's spectrum in cells, each cell's mass at its middle.

        Args:
            cuts: ``(m,)`` ascending places between the cells, of which the outermost two reach to
                the ends that the support can have.

        Returns:
            ``m + 1`` values at most; cells without mass are left out.

        Raises:
            ArithmeticError: If the solution is lost on the way down.
        """
        inner = np.asarray(cuts, dtype=np.float64)
        ends = [
            f(measure.values) for measure in (self.first, self.second) for f in (np.min, np.max)
        ]
        low, high = ends[0] + ends[2], ends[1] + ends[3]
        inner = inner[(inner > low) & (inner < high)]
        shares = np.concatenate([[0.0], self.shares_below(inner), [1.0]])
        # what the quadrature rounds may fall by as much
        masses = np.diff(np.maximum.accumulate(np.clip(shares, 0, 1)))
        edges = np.concatenate([[low], inner, [high]])
        middles = (edges[1:] + edges[:-1]) / 2
        return DiscreteMeasure.of(middles[masses > 0], masses[masses > 0])

    def density(self, x: npt.ArrayLike, *, height: float) -> Array:
        """``-Im G(x + i height) / pi``: the density, smoothed by a Cauchy kernel of that width.

        Args:
            x: ``(n,)`` places.
            height: Positive. Shares below a place are not to be read off it: see
                :meth:`share_below`.

        Returns:
            ``(n,)``.

        Raises:
            ValueError: If ``height`` is not positive.
            ArithmeticError: If the solution is lost on the way down.
        """
        if not height > 0:
            raise ValueError(f"`height` must be positive, got {height}. Give a width to smooth by.")
        places = np.asarray(x, dtype=np.float64)
        top = max(TOP * self._unit, 2 * height)
        steps = math.ceil(STEPS_PER_DECADE * math.log10(top / height)) + 1
        solution = self._start(places)
        for each in np.geomspace(top, height, steps):
            solution = self._solve(places + 1j * each, solution)
        return np.asarray(-self.first.stieltjes(solution)[0].imag / math.pi)

    def _start(self, x: Array) -> Complex:
        return np.asarray(x + 1j * TOP * self._unit - self.second.mean, dtype=np.complex128)

    def _solve(self, z: Complex, guess: Complex) -> Complex:
        """``w(z)``, from that of a place nearby."""
        w, smallest = guess.copy(), z.imag * (1 - 1e-9)
        left = np.arange(len(z))
        for iteration in range(MAX_ITERATIONS):
            here, own = z[left], w[left]
            h, h_slope = self.first.increment(own)
            k, k_slope = self.second.increment(here + h)
            residual = here + k - own
            is_open = np.abs(residual) > TOLERANCE * (np.abs(own) + self._unit)
            if not is_open.any():
                return w
            left, own, residual = left[is_open], own[is_open], residual[is_open]
            with np.errstate(divide="ignore", invalid="ignore"):
                newton = own - residual / (k_slope[is_open] * h_slope[is_open] - 1)
            is_astray = ~np.isfinite(newton) | (newton.imag < smallest[left])
            is_astray |= iteration % DAMPED_EVERY == DAMPED_EVERY - 1
            w[left] = np.where(is_astray, own + DAMPING * residual, newton)
        worst = z[left[np.abs(residual).argmax()]]
        raise ArithmeticError(
            f"the subordination function was not found at {worst:.6g} within {MAX_ITERATIONS} "
            "iterations. Ask for a larger `height`, or merge eigenvalues that nearly agree."
        )
