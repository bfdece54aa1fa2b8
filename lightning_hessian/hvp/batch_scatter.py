"""How the derivatives of single batches and samples lie around those of all."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_hessian.data import FrozenBatch
from lightning_hessian.errors import RefusedError
from lightning_hessian.loss import Conductor, TrainingLoss, second_derivatives
from lightning_hessian.processes import on_all_or_none
from lightning_hessian.sample_losses import Positions, rows_of


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BatchScatter:
    """First and second derivatives of each of ``B`` frozen batches that has a loss, along vectors.

    All on the CPU in float64, batches in the order of their index.

    Attributes:
        num_samples: ``(B,)``.
        losses: ``(B,)``.
        gradient_deviation: ``(B,)`` squared distance of the batch's gradient to the one given.
        projections: ``(B, b)`` of its gradient onto each vector.
        product_deviation: ``(B, b)`` squared distance of its Hessian's products to those given.
        forms: ``(B, b, b)`` of its Hessian with each pair of vectors.
    """

    num_samples: Tensor
    losses: Tensor
    gradient_deviation: Tensor
    projections: Tensor
    product_deviation: Tensor
    forms: Tensor


def batch_scatter(
    loss: TrainingLoss | Conductor, gradient: Tensor, vectors: Tensor, products: Tensor
) -> BatchScatter:
    """Set each batch's derivatives beside those of all.

    Costs one gradient unit and as many HVPs as there are vectors.

    Args:
        loss: At the present parameters.
        gradient: ``(n,)`` of all batches.
        vectors: ``(n, b)``, perhaps none.
        products: ``(n, b)`` of all batches' Hessian with the vectors.

    Returns:
        The scatter over all processes' batches.

    Raises:
        RefusedError: If products are differences of gradients, and there are vectors.
    """
    if vectors.shape[1]:
        refuse_differences(loss)
    return loss.run_on_all(_batch_scatter, gradient, vectors, products)


def sample_products(loss: TrainingLoss | Conductor, sample: int, vectors: Tensor) -> Tensor:
    """Multiply by the Hessian of one sample's loss.

    Args:
        loss: Over the frozen samples.
        sample: Its position among them.
        vectors: ``(n, b)``.

    Returns:
        ``(n, b)`` in the objective's type; columns are contiguous.

    Raises:
        RefusedError: If products are differences of gradients.
    """
    refuse_differences(loss)
    position = torch.tensor([sample], dtype=torch.float64, device=loss.device)
    return loss.run_on_all(_sample_products, position, vectors)


def _batch_scatter(
    loss: TrainingLoss, gradient: Tensor, vectors: Tensor, products: Tensor
) -> BatchScatter:
    count = vectors.shape[1]
    size = len(loss.batches.batches) * loss.processes.size
    columns = loss.columns_of(vectors)
    gradient, given, directions = gradient.double(), products.double(), vectors.double()
    width = 3 + 2 * count + count * count

    def add(total: Tensor, index: int) -> None:
        batch = loss.batches.batches[index]
        derivatives = _derivatives(loss, batch, columns)
        if derivatives is None or batch.is_repeat:
            return
        value, own, moved = derivatives
        row = total.view(size, width)[batch.index]
        row[0], row[1] = value, (own - gradient).square().sum()
        row[2 : 2 + count] = directions.T @ own
        row[2 + count : 2 + 2 * count] = (moved - given).square().sum(dim=0)
        row[2 + 2 * count : -1] = (directions.T @ moved).flatten()
        row[-1] = batch.num_samples

    table = loss.sum_over_batches(size * width, add).view(size, width).cpu()
    # neither repeats of other batches nor those that training would skip
    held = table[table[:, -1] > 0]
    return BatchScatter(
        num_samples=held[:, -1],
        losses=held[:, 0],
        gradient_deviation=held[:, 1],
        projections=held[:, 2 : 2 + count],
        product_deviation=held[:, 2 + count : 2 + 2 * count],
        forms=held[:, 2 + 2 * count : -1].reshape(len(held), count, count),
    )


def _derivatives(
    loss: TrainingLoss, batch: FrozenBatch, columns: list[list[Tensor]]
) -> tuple[float, Tensor, Tensor] | None:
    """A batch's loss, gradient ``(n,)`` and products ``(n, b)``, in float64."""
    scalar = loss.evaluate(batch)
    if scalar is None:
        return None
    parameters = loss.parameters
    flat = torch.zeros(loss.size, dtype=torch.float64, device=loss.device)
    moved = flat.new_zeros(len(columns), loss.size)
    if scalar.requires_grad:
        first = torch.autograd.grad(
            scalar, parameters.tensors, create_graph=bool(columns), allow_unused=True
        )
        parameters.add_flat(flat, [None if g is None else g.detach() for g in first], 1.0)
        for j, second in enumerate(second_derivatives(first, parameters.tensors, columns)):
            parameters.add_flat(moved[j], second, 1.0)
    return float(scalar.detach()), flat, moved.T


def _sample_products(loss: TrainingLoss, position: Tensor, vectors: Tensor) -> Tensor:
    positions, sample = Positions.of(loss), int(position)
    columns = loss.columns_of(vectors)

    def product() -> Tensor:
        # transposed in the end, so that columns are contiguous with any number of processes: sums
        # over them round by their layout
        total = torch.zeros(len(columns), loss.size, dtype=torch.float64, device=loss.device)
        for batch in loss.batches.batches:
            rows = positions.rows(batch)
            if rows.start <= sample < rows.stop:
                found = _derivatives(loss, rows_of(batch, [sample - rows.start]), columns)
                if found is not None:
                    total += found[2].T
        return total

    return loss.processes.sum(on_all_or_none(loss.processes, product)).to(loss.dtype).T


def refuse_differences(loss: TrainingLoss | Conductor) -> None:
    """Refuse a loss without exact products.

    Args:
        loss: Any.

    Raises:
        RefusedError: If products are differences of gradients.
    """
    if loss.products.method != "exact":
        raise RefusedError(
            "how Hessians differ between samples needs exact products, but those of this loss are "
            "differences of gradients. Measure a loss that can be differentiated twice."
        )
