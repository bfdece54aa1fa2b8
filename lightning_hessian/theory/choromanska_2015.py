"""Critical points of spherical spin glasses: their energies, numbers and indices.

Choromanska, Henaff, Mathieu, Ben Arous and LeCun (2015), "The loss surfaces of multilayer
networks", arXiv 1412.0233. The loss of a network of depth ``H`` is modelled by

    ``L(w) = Lambda^(-(H-1)/2) sum X_{i1..iH} w_{i1} ... w_{iH}``,   ``|w|^2 = Lambda``,

with independent standard normal ``X``. All energies here are ``u = L / Lambda``. The model has
neither data nor a scale of a real loss: to lay its energies over losses takes a shift and a scale,
which no theory gives.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq

Array = npt.NDArray[np.float64]


def threshold_energy(depth: int) -> float:
    """``E_inf = 2 sqrt((H - 1) / H)``: critical points of a low index lie below ``-E_inf``.

    Args:
        depth: ``H``, the layers of weights, at least 2.

    Returns:
        Per ``Lambda``.

    Raises:
        ValueError: If ``depth`` is below 2.

    Example:
        >>> f"{threshold_energy(3):.8f}"
        '1.63299316'
    """
    _check_depth(depth)
    return 2 * math.sqrt((depth - 1) / depth)


def complexity(energy: npt.ArrayLike, depth: int, *, index: int | None = None) -> Array:
    """``Theta``: how the expected number of critical points below an energy grows with ``Lambda``.

    ``log E #{critical points with L <= Lambda u} ~ Lambda Theta(u)``, of any index, or of index
    ``k``:

        ``Theta(u) = log(H - 1) / 2 - (H - 2) min(u, 0)^2 / (4 (H - 1)) - I(u)``,
        ``Theta_k(u) = log(H - 1) / 2 - (H - 2) u^2 / (4 (H - 1)) - (k + 1) I(u)`` up to ``-E_inf``,

    ``I(u) = (2 / E_inf^2) int_u^{-E_inf} sqrt(z^2 - E_inf^2) dz`` below ``-E_inf`` and zero above,
    where ``Theta_k`` stays ``log(H - 1) / 2 - (H - 2) / H``. In the last the paper prints
    ``(H - 2) / (4 (H - 1))``, which would jump and contradicts its own figure 2.

    Args:
        energy: ``u``, any shape.
        depth: ``H``, at least 2.
        index: ``k``; by default critical points of all indices are counted.

    Returns:
        Of the shape of ``energy``; below zero no such point is to be expected.

    Raises:
        ValueError: If ``depth`` is below 2, or ``index`` negative.

    Example:
        >>> print(complexity([-1.65, -1.6], 3).round(8))
        [0.00425389 0.02657359]
        >>> print(complexity(-1.65, 3, index=1).round(7))
        0.0022467
    """
    edge = threshold_energy(depth)
    u = np.asarray(energy, dtype=np.float64)
    if index is not None:
        _check_index(index)
        u = np.minimum(u, -edge)
    below = np.minimum(u, 0.0)
    factor = 1 if index is None else index + 1
    tilt = (depth - 2) / (4 * (depth - 1))
    return np.asarray(math.log(depth - 1) / 2 - tilt * below**2 - factor * _deficit(u, edge))


def index_energy(index: int, depth: int) -> float:
    """``E_k``: below ``-E_k`` no critical point of index ``k`` or more is to be expected.

    The root of ``Theta_k(-E_k) = 0``. ``E_0`` is that of the global minimum; the others fall from
    it towards ``E_inf``. For ``H = 2`` all are ``E_inf``: there is one pair of each index.

    Args:
        index: ``k``, not negative.
        depth: ``H``, at least 2.

    Returns:
        Per ``Lambda``, positive.

    Raises:
        ValueError: If ``depth`` is below 2, or ``index`` negative.

    Example:
        >>> [f"{index_energy(k, 3):.8f}" for k in range(3)]
        ['1.65699836', '1.65287320', '1.65025313']
    """
    _check_index(index)
    edge = threshold_energy(depth)
    if depth == 2:
        return edge

    def excess(energy: float) -> float:
        return float(complexity(-energy, depth, index=index))

    high = 2 * edge
    while excess(high) > 0:
        high *= 2
    return float(brentq(excess, edge, high, xtol=1e-14, rtol=1e-14))


def index_share(energy: npt.ArrayLike, depth: int) -> Array:
    """The share of negative eigenvalues of a critical point at an energy.

    There the Hessian on the sphere has the semicircle of radius ``2 sqrt(H (H - 1))`` centred at
    ``-H u``, hence ``alpha = 1/2 + (t sqrt(1 - t^2) + arcsin t) / pi``, ``t = u / E_inf``, and
    ``alpha ~ .6002 d^(3/2)`` at ``u = -E_inf (1 - d)``: the exponent of Pennington and Bahri, too.
    In the limit of large ``Lambda``; not in the paper, but a consequence of its sources.

    Args:
        energy: ``u``, any shape.
        depth: ``H``, at least 2.

    Returns:
        From 0, at and below ``-E_inf``, to 1, of the shape of ``energy``.

    Raises:
        ValueError: If ``depth`` is below 2.

    Example:
        >>> print(index_share([-1.6, -1.0, 0.0], 3).round(7))
        [0.0017185 0.1361142 0.5      ]
    """
    t = np.clip(np.asarray(energy, dtype=np.float64) / threshold_energy(depth), -1, 1)
    return np.asarray(0.5 + (t * np.sqrt(1 - t * t) + np.arcsin(t)) / math.pi)


def _deficit(energy: Array, edge: float) -> Array:
    """``I(u)``, in the variable that keeps its digits near the edge."""
    # with u = -E cosh s the integral is sinh(2 s) / 2 - s, doubled by 2 / E^2 times E^2
    s = np.arccosh(np.maximum(-energy / edge, 1.0))
    return np.asarray(np.sinh(2 * s) / 2 - s)


def _check_depth(depth: int) -> None:
    if depth < 2:
        raise ValueError(
            f"`depth` must be at least 2, got {depth}: a single layer of weights has no critical "
            "points on the sphere but two. Count the layers of weights."
        )


def _check_index(index: int) -> None:
    if index < 0:
        raise ValueError(f"`index` must not be negative, got {index}. Minima have index 0.")
