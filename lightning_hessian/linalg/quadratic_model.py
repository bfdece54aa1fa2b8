"""How near a critical point is: the loss to second order, in a Krylov space of its gradient."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from scipy.optimize import brentq
from torch import Tensor

from lightning_hessian.linalg.krylov import KrylovSpace

DIGITS = 1e-13
"""Of the largest singular value: what is smaller is zero."""


@dataclass(frozen=True, slots=True, eq=False)
class QuadraticModel:
    """``L(w + s) = L + g.s + s.H s / 2`` for steps ``s`` within a Krylov space that holds ``g``.

    With ``H Q = Q T + Q_next B`` all is known from small matrices, for any radius, without a
    further product. What holds of the best step in the space bounds that of the best of all: the
    gradient can be made at least so small, the loss falls at least so far.

    Attributes:
        gradient: ``(k,)`` float64, ``Q^T g``.
        projection: ``(k, k)`` float64, ``T``.
        outflow: ``(r, k)`` float64, ``B``.

    Example:
        >>> from lightning_hessian.linalg import DenseOperator, block_lanczos
        >>> operator = DenseOperator(torch.diag(torch.tensor([2.0, -1.0], dtype=torch.float64)))
        >>> gradient = torch.tensor([[0.2], [0.0]], dtype=torch.float64)
        >>> space = block_lanczos(
        ...     operator, gradient, max_dimension=2, generator=torch.Generator().manual_seed(0)
        ... )
        >>> model = QuadraticModel.of(space, gradient_norm=0.2)
        >>> [round(model.least_gradient(radius), 6) for radius in (0.05, 0.1)]
        [0.5, 0.0]
        >>> round(model.largest_decrease(1.0), 6)  # along both: 0.2^2 / 6 and 1 / 2
        0.506667
    """

    gradient: Tensor
    projection: Tensor
    outflow: Tensor

    @classmethod
    def of(cls, space: KrylovSpace, *, gradient_norm: float) -> QuadraticModel:
        """Of a space whose first probe was the gradient, whatever its length there.

        Args:
            space: As :func:`block_lanczos` gives it.
            gradient_norm: Length of the gradient.

        Returns:
            The model.
        """
        direction = space.start[:, 0] / space.start[:, 0].norm()
        return cls(gradient_norm * direction, space.projection, space.outflow)

    def of_first(self, count: int) -> QuadraticModel:
        """The same in the space of the first so many vectors.

        Args:
            count: At most ``k``.

        Returns:
            The model, whose bounds are no tighter.
        """
        rest = torch.cat([self.projection[count:, :count], self.outflow[:, :count]])
        return QuadraticModel(self.gradient[:count], self.projection[:count, :count], rest)

    def least_gradient(self, radius: float) -> float:
        """``min_{|s| <= radius} |g + H s| / |g|``: what is left of the linearised gradient.

        From above, as the step is in the space.

        Args:
            radius: In parameter units.

        Returns:
            From 0 to 1, which it is where the radius is zero.
        """
        if radius == 0:
            return 1.0
        matrix = torch.cat([self.projection, self.outflow])
        target = torch.nn.functional.pad(self.gradient, (0, len(self.outflow)))
        left, scales, right = torch.linalg.svd(matrix, full_matrices=False)
        parts = left.T @ target
        kept = scales > DIGITS * float(scales.max())
        parts, scales, right = parts[kept], scales[kept], right[kept]

        def step(damping: float) -> Tensor:
            found: Tensor = -scales * parts / (scales.square() + damping)
            return found

        # the length is at most `|scales * parts| / damping`
        most = float((scales * parts).norm()) / radius
        damping = _where_length_is(radius, lambda at: float(step(at).norm()), 0.0, most)
        left_over = target + matrix @ (right.T @ step(damping))
        return float(left_over.norm() / target.norm())

    def largest_decrease(self, radius: float) -> float:
        """``max_{|s| <= radius} -(g.s + s.H s / 2)``: how far the loss falls, from below.

        Args:
            radius: In parameter units.

        Returns:
            In units of the loss.
        """
        if radius == 0:
            return 0.0
        values, vectors = torch.linalg.eigh(self.projection)
        parts = vectors.T @ self.gradient
        best = _best_step(values, parts, radius)
        return -float(parts @ best + best @ (values * best) / 2)

    @property
    def flatness(self) -> float:
        """``|H g| / (||H|| |g|)``: near zero where ``|g|`` is stationary; 0 where ``H`` is zero."""
        image = torch.cat([self.projection, self.outflow]) @ self.gradient
        scale = float(torch.linalg.eigvalsh(self.projection).abs().max())
        return float(image.norm()) / (scale * float(self.gradient.norm())) if scale else 0.0


def _best_step(values: Tensor, parts: Tensor, radius: float) -> Tensor:
    """Of length at most ``radius``, in eigenvectors of ascending ``values``."""

    def step(shift: float) -> Tensor:
        return -parts / (values + shift)

    lowest, along = float(values[0]), abs(float(parts[0]))
    if lowest > 0 and float(step(0.0).norm()) <= radius:
        return step(0.0)
    # at which the lowest eigenvalue's part alone is as long as the radius
    least = max(along / radius - lowest, 0.0)
    if lowest + least > 0:
        most = float(parts.norm()) / radius - lowest
        return step(_where_length_is(radius, lambda at: float(step(at).norm()), least, most))
    # the gradient has nothing of the lowest eigenvector, along which the step may fill up
    apart = values > lowest
    best = torch.where(apart, -parts / (values - lowest + (~apart).double()), 0.0)
    best = best * min(1.0, radius / max(float(best.norm()), torch.finfo(best.dtype).tiny))
    best[0] = math.sqrt(max(radius**2 - float(best.square().sum()), 0.0))
    return best


def _where_length_is(
    radius: float, length: Callable[[float], float], least: float, most: float
) -> float:
    """The argument, between two, from which on a falling length is below the radius."""
    # of the inverse lengths, which are nearly straight; rounding may have it at an end
    if length(least) <= radius:
        return least
    most *= 1 + 1e-9
    return float(
        brentq(lambda at: 1 / length(at) - 1 / radius, least, most, xtol=1e-300, maxiter=1000)
    )
