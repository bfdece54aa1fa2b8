"""Do products agree with differences of gradients, and gradients with differences of the loss?"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from lightning_hessian.errors import RefusedError
from lightning_hessian.loss import TrainingLoss
from lightning_hessian.processes import enter_on_all

LIMIT = 1e-5
"""Of a parameter's part of a product, by which it may be off: far above what float64 leaves."""
FAINT = 1e-6
"""Of the whole product: parts below it are not looked at by themselves."""
SLOPE_LIMIT = 1e-5
"""Of the gradient's norm, by which the loss's slope may be off."""
ROUNDINGS = 100
"""A gradient carries about the root of as many roundings as it has operations."""
RESOLVED = 0.7
"""Of what a parameter seemed off by at a longer step: a shorter step clears it only where rounding
leaves that less open."""
STEADY = 0.1
"""Of their distance to the product, by which two differences of different steps may differ where it
is the product that is off: what comes of a kink changes with the step."""


@dataclass(frozen=True, slots=True, eq=False)
class Differences:
    """Central differences along the columns of ``(n, b)`` unit vectors.

    Attributes:
        products: ``(n, b)`` of gradients.
        roundings: ``(p, b)`` what these may be off by in each of ``p`` parameters.
        slopes: ``(b,)`` of the loss.
        slope_rounding: What these may be off by.
    """

    products: Tensor
    roundings: Tensor
    slopes: Tensor
    slope_rounding: float

    @classmethod
    def along(cls, loss: TrainingLoss, vectors: Tensor, step: float, eps: float) -> Differences:
        """Costs two gradients for each vector."""
        sizes = torch.tensor(loss.parameters.lengths, device=loss.device)
        shares = (sizes / loss.size).sqrt()
        products, roundings, slopes, largest = [], [], [], 0.0
        for vector in vectors.T.contiguous():
            ahead, behind = (_at(loss, vector, sign * step) for sign in (1, -1))
            products.append((ahead.gradient - behind.gradient) / (2 * step))
            lengths = _lengths(loss, ahead.gradient) + _lengths(loss, behind.gradient)
            whole = ahead.gradient.norm() + behind.gradient.norm()
            roundings.append(ROUNDINGS * eps * (lengths + shares * whole) / (2 * step))
            slopes.append((ahead.value - behind.value) / (2 * step))
            largest = max(largest, abs(ahead.value) + abs(behind.value))
        return cls(
            products=torch.stack(products, dim=1),
            roundings=torch.stack(roundings, dim=1),
            slopes=torch.tensor(slopes, dtype=torch.float64, device=loss.device),
            slope_rounding=ROUNDINGS * eps * largest / (2 * step),
        )

    def excess(self, loss: TrainingLoss, products: Tensor) -> tuple[Tensor, Tensor]:
        """By how much of its own part each parameter's part of the products is off, ``(p, b)``.

        Beyond rounding; beside it what rounding leaves open.
        """
        parts = [_lengths(loss, each) for each in (products - self.products).T]
        larger = [
            torch.maximum(_lengths(loss, one), _lengths(loss, other)) + FAINT * one.norm()
            for one, other in zip(products.T, self.products.T, strict=True)
        ]
        off = (torch.stack(parts, dim=1) - self.roundings).clamp_min(0)
        scale = torch.stack(larger, dim=1).clamp_min(torch.finfo(off.dtype).tiny)
        return off / scale, self.roundings / scale


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Products beside differences of several steps, up to the first that agrees.

    Attributes:
        products: ``(n, b)``.
        differences: By falling steps.
        distance: How far the parameter is off that is furthest off, each by the step that clears it
            furthest.
        worst: The position of that parameter.
    """

    products: Tensor
    differences: tuple[Differences, ...]
    distance: float
    worst: int

    @classmethod
    def of(
        cls, loss: TrainingLoss, vectors: Tensor, products: Tensor, steps: list[float], eps: float
    ) -> Comparison:
        """Take shorter and shorter steps until one agrees."""
        differences: list[Differences] = []
        distances: Tensor | None = None
        for step in steps:
            differences.append(Differences.along(loss, vectors, step, eps))
            excess, rounding = differences[-1].excess(loss, products)
            if distances is None:
                distances = excess
            else:
                tells = (excess < distances) & (rounding <= RESOLVED * distances)
                distances = torch.where(tells, excess, distances)
            if float(distances.max()) <= LIMIT:
                break
        assert distances is not None
        furthest = distances.amax(dim=1)
        return cls(products, tuple(differences), float(furthest.max()), int(furthest.argmax()))

    @property
    def agrees(self) -> bool:
        """Whether some step has found the products right."""
        return self.distance <= LIMIT

    def is_steady(self, loss: TrainingLoss) -> bool:
        """Whether two steps give the same other product, in the parameter that is furthest off."""
        which = slice(*loss.parameters.offsets[self.worst : self.worst + 2])
        for one, other in zip(self.differences, self.differences[1:], strict=False):
            rounding = float((one.roundings + other.roundings)[self.worst].norm())
            moved = float((one.products - other.products)[which].norm())
            off = float((self.products - one.products)[which].norm())
            if moved <= STEADY * off + rounding < off:
                return True
        return False

    def vanishes(self) -> bool:
        """Whether differences find no curvature at all where the products find some."""
        return float(self.differences[0].products.norm()) <= LIMIT * float(self.products.norm())


def slopes_are_others(
    loss: TrainingLoss, vectors: Tensor, gradient: Tensor, step: float, eps: float
) -> bool:
    """Whether the loss rises along some unit vectors ``(n, b)`` otherwise than its gradient says.

    Costs two gradients for each.
    """
    found = Differences.along(loss, vectors, step, eps)
    off = (found.slopes - vectors.T @ gradient).abs().max()
    return float(off) > SLOPE_LIMIT * float(gradient.norm()) + found.slope_rounding


@dataclass(frozen=True, slots=True, eq=False)
class _Point:
    value: float
    gradient: Tensor


def _at(loss: TrainingLoss, vector: Tensor, step: float) -> _Point:
    """Loss and gradient at ``w + step v``, by ``backward()`` as training takes it."""
    end = loss.size
    with enter_on_all(loss.processes, loss.displaced(vector, step)):
        total = loss.sum_over_batches(end + 2, partial(_add_backward, loss))
    if total[-1] == 0:
        raise RefusedError(
            "`training_step` returned None for a batch at slightly moved parameters, but a "
            "loss at the present ones: its loss is not a function of the parameters."
        )
    total = total / total[-1]
    return _Point(float(total[end]), total[:end])


def _add_backward(loss: TrainingLoss, total: Tensor, index: int) -> None:
    """Add a batch's weighted gradient, its loss, and its weight."""
    batch, tensors = loss.sample.batches[index], loss.parameters.tensors
    scalar = loss.evaluate(batch)
    if scalar is None or not scalar.requires_grad:
        return
    for parameter in tensors:
        parameter.grad = None
    (batch.weight * scalar).backward(inputs=list(tensors))
    loss.parameters.add_flat(total[:-2], [p.grad for p in tensors], 1.0)
    total[-2] += batch.weight * scalar.detach().double()
    total[-1] += batch.weight


def _lengths(loss: TrainingLoss, vector: Tensor) -> Tensor:
    """``(p,)`` norms of a flat vector's part in each parameter."""
    return torch.stack([part.norm() for part in loss.parameters.split(vector.contiguous())])
