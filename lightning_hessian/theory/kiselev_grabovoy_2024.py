"""Worst cases of the loss difference ``d_k = L_{k+1} - L_k``, and of its sample sizes.

N. Kiselev and A. Grabovoy (2024), "Unraveling the Hessian: a key to smooth convergence in loss
function landscapes", arXiv 2409.11995; its sequels are named where they are used. The paper bounds
``|d_k|`` by its worst case, which stands here for comparison: the laws of a random order, exact or
nearly so, are in :mod:`lightning_hessian.statistics`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor


def worst_case_sample_size(
    max_loss: float, max_gradient: float, max_hessian: float, radius: float, threshold: float
) -> float:
    """The thesis's ``m_1* = (2 M_l + M_g R + M_H R^2) / threshold``, from maxima over samples.

    It asks ``|d_k| <= threshold`` in a ball of radius ``R`` for the worst sample that there may be.

    Args:
        max_loss: ``M_l``, of the loss of a sample.
        max_gradient: ``M_g``, of the norm of its gradient.
        max_hessian: ``M_H``, of the spectral norm of its Hessian.
        radius: ``R``, of the ball of parameters.
        threshold: Positive, in units of the loss.

    Returns:
        Not rounded.

    References:
        N. Kiselev (2026), thesis, part 4 (``kisnikser/PhD-Thesis``).

    Example:
        >>> f"{worst_case_sample_size(2.0, 3.0, 5.0, radius=0.1, threshold=0.01):.6g}"
        '435'
    """
    return (2 * max_loss + max_gradient * radius + max_hessian * radius**2) / threshold


def worst_case_sample_size_of_mean_square(
    max_loss: float,
    max_gradient: float,
    max_hessian: float,
    sigma: float,
    dimensions: int,
    threshold: float,
) -> float:
    """The thesis's ``m_2*``, at which the mean square difference in a Gaussian ball is small.

    ``sqrt((12 M_l^2 + 3 s^2 M_g^2 + 3 s^4 (D^2 + 2 D) M_H^2) / threshold)``. Measured, it is
    ``sqrt(V(s) / threshold)`` with the variance over samples ``V(s)``.

    Args:
        max_loss: ``M_l``, of the loss of a sample.
        max_gradient: ``M_g``, of the norm of its gradient.
        max_hessian: ``M_H``, of the spectral norm of its Hessian.
        sigma: ``s``, the perturbation's standard deviation of each coordinate.
        dimensions: ``D`` of the subspace; the number of parameters for all of it.
        threshold: Of ``E d_k^2``: positive, in squared units of the loss.

    Returns:
        Not rounded.

    References:
        N. Kiselev (2026), thesis, part 4 (``kisnikser/PhD-Thesis``).

    Example:
        >>> needed = worst_case_sample_size_of_mean_square(
        ...     1.0, 2.0, 4.0, sigma=0.1, dimensions=2, threshold=0.01
        ... )
        >>> f"{needed:.6g}"
        '34.8689'
    """
    quadratic = 3 * sigma**4 * (dimensions**2 + 2 * dimensions) * max_hessian**2
    linear = 3 * sigma**2 * max_gradient**2
    return math.sqrt((12 * max_loss**2 + linear + quadratic) / threshold)


class MeanSquareDifference(NamedTuple):
    """``Delta_2 = E (L_{k+1} - L_k)^2`` in a Gaussian ball, by powers of ``sigma``.

    Attributes:
        value: ``a^2``, that of the centre; the whole of it for small ``sigma``.
        linear: ``sigma^2 (|c|^2 + a tr B)``.
        quadratic: ``(sigma^4 / 4) (2 tr B^2 + (tr B)^2)``.
    """

    value: float
    linear: float
    quadratic: float

    @property
    def total(self) -> float:
        """``Delta_2``."""
        return self.value + self.linear + self.quadratic


def mean_square_difference(
    difference: float, gradient: Tensor, hessian: Tensor, sigma: float
) -> MeanSquareDifference:
    """Moments of ``(a + c.x + x.B x / 2)^2`` for ``x`` normal with variance ``sigma^2``.

    Odd moments vanish; ``E (x.B x)^2 = sigma^4 (2 tr B^2 + (tr B)^2)``. Exact for losses of second
    order. The sequels leave out ``a`` or ``c``; off an interpolating minimum neither is small.

    Args:
        difference: ``a = d_k`` at the centre.
        gradient: ``(D,)`` ``c``, the difference of the gradients of ``L_{k+1}`` and ``L_k``.
        hessian: ``(D, D)`` ``B``, that of their Hessians, symmetric.
        sigma: Standard deviation of each coordinate.

    Returns:
        The three parts.

    References:
        "Curvature-aligned probing" (2026), arXiv 2604.14870.

    Example:
        >>> import torch
        >>> hessian = torch.tensor([[2.0, 0.0], [0.0, -1.0]])
        >>> parts = mean_square_difference(0.5, torch.tensor([1.0, 0.0]), hessian, sigma=0.1)
        >>> [f"{part:.6g}" for part in (*parts, parts.total)]
        ['0.25', '0.015', '0.000275', '0.265275']
    """
    trace = float(hessian.trace())
    squares = float(hessian.square().sum())
    return MeanSquareDifference(
        value=difference**2,
        linear=sigma**2 * (float(gradient.square().sum()) + difference * trace),
        quadratic=sigma**4 / 4 * (2 * squares + trace**2),
    )


def difference_bound(
    k: int,
    *,
    loss_difference: float,
    gradient_difference: float,
    hessian_difference: float,
    radius: float,
) -> float:
    """Bound ``|d_k|`` in a ball around any parameters, to second order; lemma 2, corrected.

    ``(|l - L_k| + |g - g_k| R + ||H - H_k|| R^2 / 2) / (k + 1)``, ``l``, ``g`` and ``H`` being of
    the sample added and the others means over ``k``. What is left out is of order
    ``R^3 / (k + 1)``.
    The paper drops the 1/2, and the gradient, which is zero for all ``k`` only where every sample
    is interpolated.

    Args:
        k: Samples so far.
        loss_difference: ``|l - L_k|`` at the centre.
        gradient_difference: ``|g - g_k|`` there.
        hessian_difference: Spectral norm ``||H - H_k||`` there.
        radius: ``R``.

    Returns:
        In units of the loss.

    Example:
        >>> difference_bound(
        ...     99, loss_difference=1.0, gradient_difference=2.0, hessian_difference=4.0, radius=0.5
        ... )
        0.025
    """
    second = hessian_difference * radius**2 / 2
    return (loss_difference + gradient_difference * radius + second) / (k + 1)


def worst_case_difference_bound(
    k: int,
    *,
    max_loss: float,
    max_gradient: float,
    max_gauss_newton: float,
    max_residual: float,
    radius: float,
) -> float:
    """:func:`difference_bound` with maxima over samples in the place of differences.

    ``(M_l + 2 M_g R + (M_G + 2 M_r) R^2 / 2) / (k + 1)``. Losses between 0 and ``M_l`` differ by
    ``M_l``, and positive semidefinite matrices up to ``M_G`` by ``M_G``; only what may have either
    sign differs by twice its maximum. The paper has the factor 2 throughout.

    Args:
        k: Samples so far.
        max_loss: ``M_l``; losses are not negative.
        max_gradient: ``M_g``, of the norm of a sample's gradient.
        max_gauss_newton: ``M_G``, of the norm of the Gauss-Newton part of its Hessian.
        max_residual: ``M_r``, of the norm of the other part.
        radius: ``R``.

    Returns:
        In units of the loss.

    Example:
        >>> worst_case_difference_bound(
        ...     99,
        ...     max_loss=1.0,
        ...     max_gradient=1.0,
        ...     max_gauss_newton=2.0,
        ...     max_residual=1.0,
        ...     radius=0.5,
        ... )
        0.025
    """
    return difference_bound(
        k,
        loss_difference=max_loss,
        gradient_difference=2 * max_gradient,
        hessian_difference=max_gauss_newton + 2 * max_residual,
        radius=radius,
    )
