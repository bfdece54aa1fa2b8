"""A training loss at any weights: where a search looks, and what that has cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_hessian.linalg import RitzPairs, block_lanczos
from lightning_hessian.loss import TrainingLoss
from lightning_hessian.options import WeightDecay
from lightning_hessian.studies.weight_decay import DecayedLoss

COLUMNS = 64
"""Of the Hessian that are computed at once."""
SMALLEST = 1e-14
"""Of the largest curvature: what is added to all, so that zeros do not divide."""
TINY = 1e-150
"""Its square is no zero."""
HALVINGS = 60


@dataclass(frozen=True, slots=True, eq=False)
class Slope:
    """The loss and its gradient, with weight decay in both.

    Attributes:
        loss: Itself.
        gradient: ``(n,)`` float64.
    """

    loss: float
    gradient: Tensor

    @property
    def norm(self) -> float:
        """Of the gradient."""
        return float(self.gradient.norm())


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """A step and what the loss to second order makes of it.

    Attributes:
        vector: ``(n,)`` the step itself.
        change: Of the loss.
        terms: Sum of the magnitudes that the change is the sum of; they cancel at saddles.
    """

    vector: Tensor
    change: float
    terms: float


@dataclass(frozen=True, slots=True, eq=False)
class Quadratic:
    """The loss to second order, by eigenpairs of the Hessian on a space that holds the gradient.

    Attributes:
        slope: Loss and gradient there.
        values: ``(k,)`` ascending.
        parts: ``(k,)`` of the gradient, along each eigenvector.
        combine: From coordinates ``(k, 1)`` in the eigenvectors to a vector ``(n, 1)``.
    """

    slope: Slope
    values: Tensor
    parts: Tensor
    combine: Callable[[Tensor], Tensor]

    def step(self, signs: Tensor, reach: float) -> Step:
        """Down each eigenvector whose sign is 1, up where it is -1, as far as its curvature says.

        Where that is too far all curvatures count as larger by as much as it takes.

        Args:
            signs: ``(k,)``.
            reach: Length that no step exceeds.

        Returns:
            The step.
        """
        sizes, parts = self.values.abs(), self.parts.abs()
        most = float(self.parts.norm()) / reach
        damping = self._damping(lambda mu: parts / (sizes + mu), most, reach)
        return self._along(-signs * self.parts.sign() * parts / (sizes + damping))

    def residual_step(self, reach: float) -> Step:
        """To the least ``|g + H s|`` within a length, ``s = -(H^2 + mu^2)^-1 H g``.

        Args:
            reach: Length that no step exceeds.

        Returns:
            The step.
        """
        products = self.values * self.parts
        most = float(self.parts.norm()) / (2 * reach)
        damping = self._damping(
            lambda mu: products.abs() / (self.values.square() + mu**2), most, reach
        )
        return self._along(-products / (self.values.square() + damping**2))

    def _damping(self, lengths: Callable[[float], Tensor], most: float, reach: float) -> float:
        """By bisection, the least that curvatures are increased by for a step within a length."""
        least = max(SMALLEST * float(self.values.abs().max()), TINY)
        if float(lengths(least).norm()) <= reach:
            return least
        for _ in range(HALVINGS):
            middle = math.sqrt(least * most)
            is_far = float(lengths(middle).norm()) > reach
            least, most = (middle, most) if is_far else (least, middle)
        return most

    def _along(self, along: Tensor) -> Step:
        """A step of these coordinates."""
        terms = torch.stack([self.parts * along, self.values * along.square() / 2])
        vector = self.combine(along[:, None])[:, 0].to(self.slope.gradient)
        return Step(vector, float(terms.sum()), float(terms.abs().sum()))


class SearchedLoss:
    """A loss with its weight decay, at weights that are not the module's.

    The module's parameters stand at other values while a loss, a gradient or products are computed,
    and have their bits back after each.

    Args:
        loss: At the module's weights.
        weight_decay: What of it is part of the loss.
        on_products: Told the number of products after each block.

    Attributes:
        loss: As given.
        weight_decay: As given.
        decay: The same in words.
        origin: ``(n,)`` float64, the module's weights.
        num_products: So far, of Hessian and vector.
        num_gradients: So far.
        num_passes: Forward passes so far.
    """

    def __init__(
        self, loss: TrainingLoss, weight_decay: WeightDecay, on_products: Callable[[int], None]
    ) -> None:
        self.loss = loss
        self.weight_decay = weight_decay
        self._decayed = DecayedLoss(loss, weight_decay)
        self.decay = self._decayed.description
        self._on_products = on_products
        self.origin = self._decayed.weights
        self.size, self.device, self.dtype = loss.size, loss.device, loss.dtype
        self.num_products = self.num_gradients = self.num_passes = 0

    @contextmanager
    def at(self, weights: Tensor) -> Iterator[Slope]:
        """Be at other weights inside; costs a gradient."""
        with self.loss.displaced(weights - self.origin, 1.0):
            found = self._decayed.decayed(self.loss.gradient(), weights)
            self.num_gradients += 1
            yield Slope(found.loss, found.vector)

    def slope_at(self, weights: Tensor) -> Slope:
        """Loss and gradient; costs a gradient."""
        with self.at(weights) as slope:
            return slope

    def value_at(self, weights: Tensor) -> float:
        """The loss, by forward passes; ``nan`` where it is not finite."""
        self.num_passes += 1
        return self._decayed.value_at(weights - self.origin, 1.0)

    def matmat(self, vectors: Tensor) -> Tensor:
        """``(H + W) V`` at the weights that :meth:`at` has gone to."""
        images = self._decayed.matmat(vectors)
        self.told(vectors.shape[1])
        return images

    def told(self, num_products: int) -> None:
        """Count products."""
        self.num_products += num_products
        self._on_products(num_products)

    def in_krylov_space(self, slope: Slope, dimension: int) -> Quadratic:
        """Inside of :meth:`at`, from a Lanczos run that starts with the gradient.

        Costs ``dimension`` products.

        Returns:
            The loss to second order there.
        """
        space = block_lanczos(
            self,
            slope.gradient[:, None],
            max_dimension=dimension,
            generator=torch.Generator().manual_seed(0),
        )
        pairs = RitzPairs.of(space)
        start = space.start[:, 0] / space.start[:, 0].norm()

        def combine(coordinates: Tensor) -> Tensor:
            return space.combine(pairs.vectors @ coordinates)

        return Quadratic(slope, pairs.values, slope.norm * (pairs.vectors.T @ start), combine)

    def in_full(self, slope: Slope) -> Quadratic:
        """Inside of :meth:`at`, from the whole Hessian; costs ``n`` products."""
        hessian = self.hessian().cpu()
        values, vectors = torch.linalg.eigh(hessian)
        parts = vectors.T @ slope.gradient.cpu()
        return Quadratic(slope, values, parts, vectors.matmul)

    def hessian(self) -> Tensor:
        """Inside of :meth:`at`, ``(n, n)`` symmetric; costs ``n`` products."""
        every = torch.eye(self.size, dtype=self.dtype, device=self.device)
        columns = [self.matmat(block) for block in every.split(COLUMNS, dim=1)]
        hessian = torch.cat(columns, dim=1).double()
        return (hessian + hessian.T) / 2
