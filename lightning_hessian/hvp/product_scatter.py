"""Products with the Hessian of all batches, and how those of the single ones lie around them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from lightning_hessian.hvp.batch_scatter import refuse_differences
from lightning_hessian.loss import Conductor, TrainingLoss


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ColumnScatter:
    """The Hessian ``H_b`` of each of ``B`` batches along each of ``b`` vectors ``v_j``.

    All on the CPU in float64. The mean over batches by their sizes is the Hessian ``H`` of all, so
    that ``sum_b n_b |(H_b - H) v_j|^2 = sum_b n_b |H_b v_j|^2 - N |H v_j|^2``.

    Attributes:
        sizes: ``(B,)`` ``n_b``, shares of all samples by the batches' weights: numbers of samples,
            unless weighted otherwise. Their sum ``N`` is the number of samples.
        forms: ``(B, b)`` ``v_j . H_b v_j``.
        squares: ``(B, b)`` ``|H_b v_j|^2``.
        mean_squares: ``(b,)`` ``|H v_j|^2``.
    """

    sizes: Tensor
    forms: Tensor
    squares: Tensor
    mean_squares: Tensor

    @classmethod
    def joined(cls, parts: Sequence[ColumnScatter]) -> ColumnScatter:
        """Along all the vectors of several passes over the same batches.

        Args:
            parts: At least one.

        Returns:
            Columns in the order of the parts.
        """
        return cls(
            sizes=parts[0].sizes,
            forms=torch.cat([part.forms for part in parts], dim=1),
            squares=torch.cat([part.squares for part in parts], dim=1),
            mean_squares=torch.cat([part.mean_squares for part in parts]),
        )

    def part(self, which: slice) -> ColumnScatter:
        """Along some of the vectors.

        Args:
            which: Of their positions.

        Returns:
            Those columns.
        """
        return ColumnScatter(
            sizes=self.sizes,
            forms=self.forms[:, which],
            squares=self.squares[:, which],
            mean_squares=self.mean_squares[which],
        )

    @property
    def deviations(self) -> Tensor:
        """``(B, b)`` whose sum over batches is ``sum_b n_b |(H_b - H) v_j|^2``."""
        return self.sizes[:, None] * (self.squares - self.mean_squares)

    @property
    def num_vectors(self) -> int:
        """Their number ``b``."""
        return self.forms.shape[1]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ProductScatter:
    """The Hessian of each of ``B`` batches, seen through ``b`` vectors.

    Attributes:
        columns: Along each vector.
        forms: ``(B, b, b)`` float64 on the CPU, ``v_i . H_b v_j``.
    """

    columns: ColumnScatter
    forms: Tensor


def scattered_products(
    loss: TrainingLoss | Conductor, vectors: Tensor
) -> tuple[Tensor, ProductScatter]:
    """Multiply by the Hessian, and keep how each batch's own lies around it.

    One pass over the frozen batches, at the price of the products alone.

    Args:
        loss: At the present parameters.
        vectors: ``(n, b)``.

    Returns:
        What ``hessian_products`` gives, to the bit, and the scatter of the batches that have a loss
        and count for something, in the order of their index.

    Raises:
        RefusedError: If products are differences of gradients.
    """
    refuse_differences(loss)
    return loss.run_on_all(_scattered_products, vectors)


def _scattered_products(loss: TrainingLoss, vectors: Tensor) -> tuple[Tensor, ProductScatter]:
    count, total_weight = vectors.shape[1], loss.total_weight
    rows = len(loss.batches.batches) * loss.processes.size
    columns = loss.columns_of(vectors)
    width = 2 + count + count * count
    length = count * loss.size
    # of one layout for any number of processes, on which the sums' rounding depends
    directions = vectors.T.double().contiguous()
    add = partial(_add, loss, directions, columns)
    payload = loss.sum_of_products(columns, length + rows * width, add)
    products = (payload[:length] / total_weight).view(count, loss.size).to(loss.dtype).T
    table = payload[length:].view(rows, width).cpu()
    # neither repeats of other batches nor those that training would skip
    held = table[table[:, 0] > 0]
    weights, samples = held[:, 0], held[:, 1]
    forms = held[:, 2 + count :].reshape(len(held), count, count).mT
    along = ColumnScatter(
        sizes=weights * (samples.sum() / weights.sum()),
        forms=forms.diagonal(dim1=1, dim2=2),
        squares=held[:, 2 : 2 + count],
        mean_squares=products.double().square().sum(dim=0).cpu(),
    )
    return products, ProductScatter(columns=along, forms=forms)


def _add(
    loss: TrainingLoss,
    directions: Tensor,
    columns: list[list[Tensor]],
    payload: Tensor,
    index: int,
) -> None:
    """Add a batch's products to the sum of all, and fill its row of the table behind that."""
    batch, count, length = loss.batches.batches[index], len(columns), len(columns) * loss.size
    width = 2 + count + count * count
    row = payload[length + batch.index * width :][:width]
    if not batch.is_repeat and index not in loss.skipped:
        row[0], row[1] = batch.weight, batch.num_samples
    # those of a repeat are zero, but a step may exchange tensors in them
    for j, pieces in enumerate(loss.batch_products(index, columns)):
        moved = torch.zeros(loss.size, dtype=torch.float64, device=loss.device)
        loss.parameters.add_flat(moved, pieces, 1.0)
        if batch.is_repeat:
            continue
        payload[j * loss.size : (j + 1) * loss.size] += moved
        row[2 + j] = moved.dot(moved) / batch.weight**2
        row[2 + count + j * count :][:count] = directions @ moved / batch.weight
