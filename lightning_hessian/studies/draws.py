"""How Hessians differ between draws of the step's random numbers, seen through vectors."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_hessian.hvp import SKETCH, AlongVectors, per_batch_products
from lightning_hessian.loss import Conductor, TrainingLoss

RECOMPUTED = 1.5
"""Products that one costs whose graph serves no other."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Draws:
    """The Hessians ``H_br`` of ``B`` batches under ``R`` draws each, seen through ``d`` vectors.

    All on the CPU in float64. A batch of ``n_b`` samples scatters over draws by ``S_d^2 / n_b``
    where each sample has draws of its own; where all share one, ``S_d^2`` stands for what batches
    of this size come to.

    Attributes:
        sizes: ``(B,)`` samples of each batch.
        forms: ``(R, B, d, d)`` ``v_i . H_br v_j``.
        beside: ``(R, B, e, d)`` ``u_i . H_br v_j`` with further vectors, if there were any.
        sketches: ``(R, B, s, d)`` ``S H_br v_j``, see :class:`PerBatch`.
        num_hvps: Products over all frozen samples that this took, rounded up.
    """

    sizes: Tensor
    forms: Tensor
    beside: Tensor | None
    sketches: Tensor
    num_hvps: int

    @property
    def degrees_of_freedom(self) -> int:
        """Of a variance over draws."""
        return len(self.sizes) * (len(self.forms) - 1)

    def variance(self, values: Tensor | None) -> Tensor:
        """``S_d^2 = n_b Var`` over draws, from a quantity of each batch ``(R, B, ...)``."""
        assert values is not None
        spread = values.var(dim=0)
        mean: Tensor = torch.tensordot(self.sizes, spread, dims=1) / len(self.sizes)
        return mean

    def along(self, which: slice) -> AlongVectors:
        """How far each draw of each batch is from the batch's mean, along some of the vectors."""
        sketches, count = self.sketches[..., which], len(self.forms)
        distances = (sketches - sketches.mean(dim=0)).square().sum(dim=2) * (count / (count - 1))
        return AlongVectors(
            sizes=self.sizes.repeat(count),
            forms=self.forms.diagonal(dim1=2, dim2=3)[..., which].flatten(0, 1),
            distances=distances.flatten(0, 1),
        )


def price_of_draws(loss: TrainingLoss | Conductor, num_vectors: int) -> float:
    """Products over all frozen samples that a look at other draws comes to; 0 without noise."""
    if not loss.redrawn:
        return 0.0
    samples = sum(redrawn.sample.num_samples for redrawn in loss.redrawn)
    return RECOMPUTED * num_vectors * samples / loss.sample.num_samples


def beside_draws(
    loss: TrainingLoss | Conductor, num_vectors: int, num_products: int, *, least: int
) -> tuple[int, bool]:
    """How many products a look at other draws leaves, and whether that is enough to take it."""
    left = num_products - math.ceil(price_of_draws(loss, num_vectors))
    return (left, True) if left >= least else (num_products, not loss.redrawn)


def look_at_draws(
    loss: TrainingLoss | Conductor, vectors: Tensor, beside: Tensor | None = None
) -> Draws | None:
    """Multiply by the Hessians of some batches under several draws of the step's random numbers.

    Args:
        loss: With other draws of some of its batches.
        vectors: ``(n, d)``.
        beside: ``(n, e)`` further vectors to be set against the products.

    Returns:
        What differs; None without noise, or where batches are skipped under some draws alone.
    """
    if not loss.redrawn:
        return None
    tables = [
        per_batch_products(loss, vectors, beside=beside, sketch=SKETCH, draw=draw)[1]
        for draw in range(len(loss.redrawn))
    ]
    if len({len(table.forms) for table in tables}) > 1:
        return None
    return Draws(
        sizes=tables[0].along.sizes,
        forms=torch.stack([table.forms for table in tables]),
        beside=None if beside is None else _stacked([table.beside for table in tables]),
        sketches=_stacked([table.sketches for table in tables]),
        num_hvps=math.ceil(price_of_draws(loss, vectors.shape[1])),
    )


def _stacked(parts: list[Tensor | None]) -> Tensor:
    return torch.stack([part for part in parts if part is not None])
