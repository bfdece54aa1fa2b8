"""The spectrum of a Hessian as a sum of free random matrices, its edges and its index.

Pennington and Bahri (2017), "Geometry of neural network loss surfaces via random matrix theory",
PMLR 70. ``H = H0 + H1``: ``H0 = J^T J / m``, the Gauss-Newton part, is modelled as a Wishart matrix
with mean eigenvalue ``sigma`` and ratio ``phi`` of parameters to outputs times samples; ``H1``, the
residual part, as free of it, with a variance that grows with the energy ``epsilon``, half the mean
squared error of an output. In PyTorch's terms ``epsilon = MSELoss / 2``, and their Hessian is that
of ``MSELoss`` times half the number of outputs.

``G(z) = int rho(t) / (z - t) dt`` solves ``R(G) + 1/G = z``, ``R`` being the sum of the parts'
R-transforms. Outside the support ``G`` is real and monotone, so that the ends of the support are
``z(g)`` at the zeros of ``dz/dg`` next to ``g = 0``. Real Hessians are neither of the two models: a
distance belongs to every comparison.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.polynomial import Polynomial

Array = npt.NDArray[np.float64]
Complex = npt.NDArray[np.complex128]
HEIGHT, FLOOR, NUM_STEPS = 1e3, 1e-13, 64
"""The physical root is followed from ``x + i HEIGHT`` to ``x + i FLOOR`` in so many steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WishartPlusWigner:
    """``H0`` a Wishart, ``H1`` a Wigner matrix of variance ``2 epsilon sigma^2`` (section 5).

    ``R(z) = sigma / (1 - sigma phi z) + 2 epsilon sigma^2 z``, which makes ``G`` the root of a
    cubic (eq. 18). Moments: ``tau(H) = sigma``, ``tau(H^2) = sigma^2 (1 + phi + 2 epsilon)``.

    Attributes:
        energy: ``epsilon``, positive, in units of ``sigma^2``.
        ratio: ``phi``, positive. The paper has it up to 1; above, ``H0`` has eigenvalues of zero,
            and the formulas hold as well.
        scale: ``sigma``, the mean eigenvalue, positive.

    Raises:
        ValueError: If one of them is not positive.

    Example:
        >>> model = WishartPlusWigner(energy=0.1, ratio=0.25)
        >>> [f"{edge:.5f}" for edge in model.edges], f"{model.index:.6f}"
        (['-0.22573', '2.50182'], '0.053980')
        >>> print(model.density([0.0, 1.0]).round(8))
        [0.34602326 0.48037691]
        >>> f"{model.critical_energy:.8f}"
        '0.04350953'
    """

    energy: float
    ratio: float
    scale: float = 1.0

    def __post_init__(self) -> None:
        _check(energy=self.energy, ratio=self.ratio, scale=self.scale)

    def density(self, x: npt.ArrayLike) -> Array:
        """``rho(x) = |Im G| / pi`` of the pair of roots that are not real, 0 where all are.

        Args:
            x: Eigenvalues, any shape.

        Returns:
            Of the shape of ``x``; integrates to 1.
        """
        places = np.asarray(x, dtype=np.float64)
        roots = _roots(self._cubic((places.ravel() / self.scale).astype(np.complex128)))
        heights = np.abs(roots.imag).max(axis=1) / (math.pi * self.scale)
        return np.asarray(heights.reshape(places.shape))

    @property
    def edges(self) -> tuple[float, float]:
        """The lower and the upper end of the support."""
        eps, phi = self.energy, self.ratio
        g, one = Polynomial([0, 1]), Polynomial([1, -phi]) ** 2
        # z'(g) = phi / (1 - phi g)^2 + 2 eps - 1 / g^2, without denominators
        low, high = _next_to_zero(phi * g**2 + 2 * eps * g**2 * one - one)
        ends = (self.scale * (1 / (1 - phi * g) + 2 * eps * g + 1 / g) for g in (low, high))
        return next(ends), next(ends)

    @property
    def index(self) -> float:
        """The share of negative eigenvalues, in closed form; the paper has its asymptote (eq. 20).

        ``alpha = 1 - Im[log(1 - phi G0) / phi - epsilon G0^2 - log G0] / pi``, ``G0 = G(0)``, by
        integration of the inverse function ``z(G)``. 0 up to the critical energy, below 1/2 at any.
        """
        eps, phi = self.energy, self.ratio
        (roots,) = _roots(self._cubic(np.zeros(1, dtype=np.complex128)))
        root = roots[roots.imag.argmin()]
        if abs(root.imag) <= 1e-12 * abs(root):
            return 0.0
        primitive = np.log(1 - phi * root) / phi - eps * root**2 - np.log(root)
        return float(1 - primitive.imag / math.pi)

    @property
    def critical_energy(self) -> float:
        """``epsilon_c``: up to it no eigenvalue is negative (eq. 21).

        ``(1 - 20 phi - 8 phi^2 + (1 + 8 phi)^(3/2)) / 16``; 0 from ``phi = 1`` on.
        """
        if self.ratio >= 1:
            return 0.0
        # with s^2 = 1 + 8 phi the terms, which cancel near 1, are 8 (3 - s)^3 (1 + s) / 1024
        root = math.sqrt(1 + 8 * self.ratio)
        return float((8 * (1 - self.ratio) / (3 + root)) ** 3 * (1 + root) / 128)

    @property
    def index_coefficient(self) -> float:
        """``alpha_0`` of ``alpha ~ alpha_0 ((epsilon - epsilon_c) / epsilon_c)^(3/2)`` (eq. 20).

        ``(2 / 3 pi) sqrt(2 / |z''|) (2 h epsilon_c)^(3/2)`` with ``-h = G(0)`` at the critical
        energy. Too high by 7 % already a tenth above it: the closed form is :attr:`index`. ``nan``
        from ``phi = 1`` on.
        """
        phi = self.ratio
        if phi >= 1:
            return math.nan
        h = (4 * phi - 1 + math.sqrt(1 + 8 * phi)) / (4 * phi * (1 - phi))
        bend = abs(2 / h**3 - 2 * phi**2 / (1 + phi * h) ** 3)
        shift = (2 * h * self.critical_energy) ** 1.5
        return float(2 / (3 * math.pi) * math.sqrt(2 / bend) * shift)

    def _cubic(self, z: Complex) -> Complex:
        """Coefficients, highest first, of ``G`` in units of ``1 / sigma``."""
        eps, phi, one = self.energy, self.ratio, np.ones_like(z)
        return np.stack([2 * eps * phi * one, -(2 * eps + z * phi), z + phi - 1, -one], axis=-1)


@dataclass(frozen=True, slots=True, kw_only=True)
class RefinedRelu:
    """``H1`` as that of a network with one hidden layer of rectifiers, a product model (section 6).

    ``R(z) = sigma / (1 - sigma phi z) + epsilon phi z / (2 - epsilon phi^2 z^2)`` (eq. 29), which
    makes ``G`` the root of a quartic (eq. 30). The eigenvalues of ``H1`` come in pairs ``+-s``,
    ``tau(H1^2) = epsilon phi / 2``.

    Attributes:
        energy: ``epsilon``, positive, in units of ``sigma^2``.
        ratio: ``phi``, positive and at most 1.
        scale: ``sigma``, the mean eigenvalue, positive.

    Raises:
        ValueError: If one of them is not positive, or ``ratio`` above 1.

    Example:
        >>> model = RefinedRelu(energy=1.5 * 0.62741700, ratio=0.25)
        >>> f"{model.critical_energy:.8f}", f"{model.index:.7f}"
        ('0.62741700', '0.0167678')
    """

    energy: float
    ratio: float
    scale: float = 1.0

    def __post_init__(self) -> None:
        _check(energy=self.energy, ratio=self.ratio, scale=self.scale)
        if self.ratio > 1:
            raise ValueError(
                f"`ratio` must be at most 1 in the refined model, got {self.ratio}. Take "
                "`WishartPlusWigner`, or measure on more samples."
            )

    def density(self, x: npt.ArrayLike) -> Array:
        """``rho(x) = -Im G / pi`` of the root that is ``1 / z`` far above the real axis.

        Args:
            x: Eigenvalues, any shape.

        Returns:
            Of the shape of ``x``; integrates to 1.
        """
        places = np.asarray(x, dtype=np.float64)
        heights = -self._physical(places.ravel() / self.scale).imag / (math.pi * self.scale)
        return np.maximum(heights.reshape(places.shape), 0.0)

    @property
    def edges(self) -> tuple[float, float]:
        """The lower and the upper end of the support."""
        eps, phi = self.energy, self.ratio
        g, one = Polynomial([0, 1]), Polynomial([1, -phi]) ** 2
        two = Polynomial([2, 0, -eps * phi**2])
        # z'(g) = phi / (1 - phi g)^2 + eps phi (4 - two) / two^2 - 1 / g^2, two = 2 - eps phi^2 g^2
        rise = eps * phi * (4 - two) * g**2 * one
        low, high = _next_to_zero(phi * g**2 * two**2 + rise - one * two**2)
        ends = (1 / (1 - phi * g) + eps * phi * g / two(g) + 1 / g for g in (low, high))
        return self.scale * next(ends), self.scale * next(ends)

    @property
    def index(self) -> float:
        """The share of negative eigenvalues, by integration of ``z(G)``.

        ``alpha = 1 - Im[log(1 - phi G0) / phi + log(2 - epsilon phi^2 G0^2) / (2 phi) - log G0] /
        pi`` with ``G0 = G(0)``.
        """
        eps, phi = self.energy, self.ratio
        if eps <= self.critical_energy:
            return 0.0
        (root,) = self._physical(np.zeros(1))
        first, second = np.log(1 - phi * root), np.log(2 - eps * phi**2 * root**2)
        primitive = first / phi + second / (2 * phi) - np.log(root)
        return float(1 - primitive.imag / math.pi)

    @property
    def critical_energy(self) -> float:
        """``epsilon_c``: up to it no eigenvalue is negative (eq. 32), in units of ``sigma^2``.

        ``(27 - 18 chi - chi^2 + 8 chi^(3/2)) / (32 phi (1 - phi)^3)``,
        ``chi = 1 + 16 phi - 8 phi^2``.
        """
        # with s^2 = chi the terms, which cancel near 1, are (3 - s)^3 (1 + s)
        phi = self.ratio
        root = math.sqrt(1 + 16 * phi - 8 * phi**2)
        return 16 * (1 - phi) ** 3 * (1 + root) / (phi * (3 + root) ** 3)

    def _quartic(self, z: Complex) -> Complex:
        """Coefficients, highest first, of ``G`` in units of ``1 / sigma``."""
        eps, phi = self.energy, self.ratio
        coefficients = [
            z * eps * phi**3,
            -eps * phi**2 * (z + phi - 2),
            -phi * (2 * z + eps * (1 - phi)),
            2 * (z - 1 + phi),
            -2 * np.ones_like(z),
        ]
        return np.stack(coefficients, axis=-1)

    def _physical(self, x: Array) -> Complex:
        """The root above each place of the real axis, followed down from far above."""
        root: Complex = np.asarray(1 / (x + 1j * HEIGHT), dtype=np.complex128)
        for height in np.geomspace(HEIGHT, FLOOR, NUM_STEPS):
            coefficients = self._quartic(x + 1j * height)
            roots = _roots(coefficients)
            root = np.take_along_axis(
                roots, np.abs(roots - root[:, None]).argmin(axis=1)[:, None], axis=1
            )[:, 0]
        return root


def _roots(coefficients: Complex) -> Complex:
    """``(n, d)`` roots of ``n`` polynomials of degree ``d``, improved by two steps of Newton's."""
    degree = coefficients.shape[1] - 1
    # of the reversed polynomials, whose leading coefficients are not small: roots that go to
    # infinity as one does come near 0 there
    companion = np.zeros((len(coefficients), degree, degree), dtype=np.complex128)
    companion[:, 0] = -coefficients[:, degree - 1 :: -1] / coefficients[:, degree:]
    companion[:, np.arange(1, degree), np.arange(degree - 1)] = 1
    with np.errstate(divide="ignore", invalid="ignore"):
        roots = 1 / np.linalg.eigvals(companion)
        for _ in range(2):
            value, slope = np.zeros_like(roots), np.zeros_like(roots)
            for each in coefficients.T[:, :, None]:
                value, slope = value * roots + each, slope * roots + value
            step = value / slope
            roots = np.where(np.isfinite(step), roots - step, roots)
    return np.asarray(roots, dtype=np.complex128)


def _next_to_zero(polynomial: Polynomial) -> tuple[float, float]:
    """The real roots next to zero below and above it."""
    found = polynomial.roots()
    real = found[np.abs(found.imag) <= 1e-7 * np.abs(found)].real
    return float(real[real < 0].max()), float(real[real > 0].min())


def _check(**values: float) -> None:
    for name, value in values.items():
        if not (0 < value < math.inf):
            raise ValueError(f"`{name}` must be positive and finite, got {value}.")
