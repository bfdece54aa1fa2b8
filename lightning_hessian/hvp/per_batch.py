"""One table of what the Hessians, and perhaps the gradients, of single batches do along vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import Tensor

from lightning_hessian.data import FrozenBatch
from lightning_hessian.errors import RefusedError
from lightning_hessian.hvp.exact import ExactProducts
from lightning_hessian.linalg import inner_products, rademacher
from lightning_hessian.loss import Conductor, TrainingLoss, second_derivatives
from lightning_hessian.processes import on_all_or_none
from lightning_hessian.sample_losses import AS_IT_IS, Filling, Positions


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AlongVectors:
    """The Hessian ``H_b`` of each of ``B`` batches along each of ``b`` vectors ``v_j``.

    All on the CPU in float64. The mean over batches by their sizes is the Hessian ``H`` of all, so
    that ``sum_b n_b |(H_b - H) v_j|^2 = sum_b n_b (|H_b v_j|^2 - |H v_j|^2)``.

    Attributes:
        sizes: ``(B,)`` ``n_b``, shares of all samples by the batches' weights: numbers of samples,
            unless weighted otherwise. Their sum ``N`` is the number of samples.
        forms: ``(B, b)`` ``v_j . H_b v_j``.
        distances: ``(B, b)`` ``|(H_b - H) v_j|^2``, or what has the same mean over batches.
    """

    sizes: Tensor
    forms: Tensor
    distances: Tensor

    @classmethod
    def joined(cls, parts: Sequence[AlongVectors]) -> AlongVectors:
        """Along all the vectors of at least one pass over the same batches, in their order."""
        return cls(
            sizes=parts[0].sizes,
            forms=torch.cat([part.forms for part in parts], dim=1),
            distances=torch.cat([part.distances for part in parts], dim=1),
        )

    def part(self, which: slice) -> AlongVectors:
        """Along the vectors at some positions."""
        return AlongVectors(
            sizes=self.sizes, forms=self.forms[:, which], distances=self.distances[:, which]
        )

    @property
    def deviations(self) -> Tensor:
        """``(B, b)`` whose sum over batches is ``sum_b n_b |(H_b - H) v_j|^2``."""
        return self.sizes[:, None] * self.distances

    @property
    def num_vectors(self) -> int:
        """Their number ``b``."""
        return self.forms.shape[1]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PerBatch:
    """The derivatives of each of ``B`` batches, seen through ``b`` vectors.

    All on the CPU in float64, batches in the order of their index.

    Attributes:
        along: The Hessian along each vector.
        forms: ``(B, b, b)`` ``v_i . H_b v_j``.
        num_samples: ``(B,)``.
        gradients: Losses and gradients, where these were asked for.
        beside: ``(B, e, b)`` ``u_i . H_b v_j`` with further vectors ``u_i``, where given.
        sketches: ``(B, s, b)`` each ``H_b v_j`` folded to ``s`` numbers, where that was asked for:
            ``S H_b v_j`` of a fixed random ``S`` with ``E |S x|^2 = |x|^2``, so linear in ``v_j``.
    """

    along: AlongVectors
    forms: Tensor
    num_samples: Tensor
    gradients: BatchGradients | None = None
    beside: Tensor | None = None
    sketches: Tensor | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BatchGradients:
    """Loss and gradient of each of ``B`` batches.

    Attributes:
        losses: ``(B,)``.
        distances: ``(B,)`` squared distance of the gradient to that of all batches.
        projections: ``(B, b)`` of the gradient onto each vector.
    """

    losses: Tensor
    distances: Tensor
    projections: Tensor


def per_batch_products(
    loss: TrainingLoss | Conductor,
    vectors: Tensor,
    *,
    beside: Tensor | None = None,
    sketch: int = 0,
    draw: int | None = None,
) -> tuple[Tensor, PerBatch]:
    """Multiply by the Hessian, and keep how each batch's own lies around it.

    One pass over the frozen batches, at the price of the products alone.

    Args:
        loss: At the present parameters.
        vectors: ``(n, b)``.
        beside: ``(n, e)`` further vectors to be set against the products, such as earlier ones.
        sketch: Numbers ``s`` to fold each batch's products to; a squared norm read off them has a
            relative standard error of about ``sqrt(2 / s)``.
        draw: Which of ``loss.redrawn`` to multiply by; None for the loss itself.

    Returns:
        What ``loss.products.matmat`` gives, to the bit, and the table of the batches that have a
        loss and count for something.

    Raises:
        RefusedError: If products are differences of gradients.
    """
    refuse_differences(loss)
    given = (vectors,) if beside is None else (vectors, beside)
    return loss.run_on_all(partial(_per_batch_products, sketch=sketch, draw=draw), *given)


def per_batch_around(
    loss: TrainingLoss | Conductor, gradient: Tensor, vectors: Tensor, products: Tensor
) -> PerBatch:
    """Set each batch's loss, gradient and Hessian beside those of all.

    Costs one gradient unit and as many HVPs as there are vectors.

    Args:
        loss: At the present parameters.
        gradient: ``(n,)`` of all batches.
        vectors: ``(n, b)``, perhaps none.
        products: ``(n, b)`` of all batches' Hessian with the vectors.

    Returns:
        The table of all batches that have a loss, with :attr:`PerBatch.gradients`.

    Raises:
        RefusedError: If products are differences of gradients, and there are vectors.
    """
    if vectors.shape[1]:
        refuse_differences(loss)
    return loss.run_on_all(_per_batch_around, gradient, vectors, products)


def sample_products(
    loss: TrainingLoss | Conductor, sample: int, vectors: Tensor, filling: Filling = AS_IT_IS
) -> Tensor:
    """Multiply by the Hessian of one sample's loss.

    Args:
        loss: Over the frozen samples.
        sample: Its position among them.
        vectors: ``(n, b)``.
        filling: How one sample becomes a batch of a size that the step takes.

    Returns:
        ``(n, b)`` in the loss's type; columns are contiguous.

    Raises:
        RefusedError: If products are differences of gradients.
    """
    refuse_differences(loss)
    position = torch.tensor([sample], dtype=torch.float64, device=loss.device)
    return loss.run_on_all(partial(_sample_products, filling=filling), position, vectors)


def refuse_differences(loss: TrainingLoss | Conductor) -> None:
    """Refuse a loss whose products are differences of gradients."""
    if loss.products.quality.method != "exact":
        raise RefusedError(
            "how Hessians differ between samples needs exact products, but those of this loss are "
            "differences of gradients. Measure a loss that can be differentiated twice."
        )


class _Rows:
    """A row of numbers for each batch of all processes, at the end of what is summed over them.

    Each is written by the process that holds the batch. Those of repeats of other batches, and of
    batches that training would skip, stay zero.

    Args:
        loss: Whose batches.
        columns: Widths of the columns before the last two: the batch's weight and its samples.
        start: Where the rows begin.
    """

    def __init__(self, loss: TrainingLoss, *columns: int, start: int = 0) -> None:
        self._start = start
        self._columns = (*columns, 1, 1)
        self._width = sum(self._columns)
        self._count = len(loss.sample.batches) * loss.processes.size
        self.length = start + self._count * self._width

    def write(self, payload: Tensor, batch: FrozenBatch) -> tuple[Tensor, ...]:
        """Count a batch; gives the columns of its row, to be filled."""
        row = payload[self._start + batch.index * self._width :][: self._width]
        *columns, weight, num_samples = row.split(self._columns)
        weight[0], num_samples[0] = batch.weight, batch.num_samples
        return tuple(columns)

    def read(self, payload: Tensor) -> tuple[Tensor, ...]:
        """Sizes and numbers of samples ``(B,)``, and the other columns, of the batches counted."""
        table = payload[self._start :].view(self._count, self._width).cpu()
        *columns, weights, samples = table[table[:, -2] > 0].split(self._columns, dim=1)
        shares = weights[:, 0] * (samples.sum() / weights.sum())
        return shares, samples[:, 0].contiguous(), *columns


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """What each batch's product with a vector is looked at through."""

    directions: Tensor
    """``(b, n)`` float64, the vectors multiplied."""
    beside: Tensor | None
    """``(e, n)`` further ones."""
    signs: Tensor | None
    """``(c, s)`` of which each column is summed over."""

    @classmethod
    def through(cls, vectors: Tensor, beside: Tensor | None, sketch: int) -> _Seen:
        """Of one layout for any number of processes, on which the sums' rounding depends."""
        rows = None if beside is None else beside.T.contiguous()
        signs = None
        if sketch:
            count, generator = -(-len(vectors) // sketch), torch.Generator().manual_seed(0)
            size, device = count * sketch, vectors.device
            signs = rademacher(size, 1, generator=generator, device=device).view(count, sketch)
        return cls(vectors.T.double().contiguous(), rows, signs)

    @property
    def widths(self) -> tuple[int, int, int]:
        """Of forms with the vectors and with those beside, and of the sketch."""
        beside, signs = self.beside, self.signs
        return (
            len(self.directions),
            0 if beside is None else len(beside),
            0 if signs is None else signs.shape[1],
        )

    def look(self, moved: Tensor) -> Tensor:
        """All of these in a row, of a product ``(n,)`` in float64."""
        parts = [self.directions @ moved]
        if self.beside is not None:
            parts.append(inner_products(self.beside, moved[None])[:, 0])
        if self.signs is not None:
            folded = torch.zeros(self.signs.shape, dtype=torch.float64, device=moved.device)
            folded.view(-1)[: len(moved)] = moved
            parts.append(folded.mul_(self.signs).sum(dim=0))
        return torch.cat(parts)


def _per_batch_products(
    loss: TrainingLoss,
    vectors: Tensor,
    beside: Tensor | None = None,
    *,
    sketch: int = 0,
    draw: int | None = None,
) -> tuple[Tensor, PerBatch]:
    loss = loss if draw is None else loss.redrawn[draw]
    count, total_weight = vectors.shape[1], loss.weigh()
    columns = loss.columns_of(vectors)
    length = count * loss.size
    seen = on_all_or_none(loss.processes, lambda: _Seen.through(vectors, beside, sketch))
    rows = _Rows(loss, count, count * sum(seen.widths), start=length)
    exact = cast("ExactProducts", loss.products)
    add = partial(_add_products, loss, exact, rows, seen, columns)
    if columns:
        exact.check_graphs(columns[0])
    payload = exact.sum_over_batches(rows.length, add)
    products = (payload[:length] / total_weight).view(count, loss.size).to(loss.dtype).T
    sizes, num_samples, squares, table = rows.read(payload)
    table = table.reshape(len(table), count, sum(seen.widths))
    forms, others, sketches = (part.mT for part in table.split(seen.widths, dim=2))
    along = AlongVectors(
        sizes=sizes,
        forms=forms.diagonal(dim1=1, dim2=2),
        distances=squares - products.double().square().sum(dim=0).cpu(),
    )
    return products, PerBatch(
        along=along,
        forms=forms,
        num_samples=num_samples,
        beside=None if beside is None else others,
        sketches=sketches if sketch else None,
    )


def _add_products(
    loss: TrainingLoss,
    exact: ExactProducts,
    rows: _Rows,
    seen: _Seen,
    columns: list[list[Tensor]],
    payload: Tensor,
    index: int,
) -> None:
    """Add a batch's products to the sum of all, and fill its row behind that."""
    batch, size = loss.sample.batches[index], loss.size
    is_counted = not batch.is_repeat and index not in loss.skipped
    squares, table = rows.write(payload, batch) if is_counted else (None, None)
    # those of a repeat are zero, but a step may exchange tensors in them
    for j, pieces in enumerate(exact.of_batch(index, columns)):
        moved = torch.zeros(size, dtype=torch.float64, device=loss.device)
        loss.parameters.add_flat(moved, pieces, 1.0)
        if squares is None or table is None:
            continue
        payload[j * size : (j + 1) * size] += moved
        squares[j] = moved.dot(moved) / batch.weight**2
        found = seen.look(moved)
        table[j * len(found) : (j + 1) * len(found)] = found / batch.weight


def _per_batch_around(
    loss: TrainingLoss, gradient: Tensor, vectors: Tensor, products: Tensor
) -> PerBatch:
    count = vectors.shape[1]
    columns = loss.columns_of(vectors)
    rows = _Rows(loss, 1, 1, count, count, count * count)
    gradient, given, directions = gradient.double(), products.double(), vectors.double()

    def add(payload: Tensor, index: int) -> None:
        batch = loss.sample.batches[index]
        found = _derivatives(loss, batch, columns)
        if found is None or batch.is_repeat:
            return
        value, own, moved = found
        losses, distance, projections, distances, forms = rows.write(payload, batch)
        losses[0], distance[0] = value, (own - gradient).square().sum()
        projections[:] = directions.T @ own
        distances[:] = (moved - given).square().sum(dim=0)
        forms[:] = (directions.T @ moved).flatten()

    payload = loss.sum_over_batches(rows.length, add)
    sizes, num_samples, *table = rows.read(payload)
    losses, distance, projections, distances, forms = (part.contiguous() for part in table)
    forms = forms.view(len(forms), count, count)
    return PerBatch(
        along=AlongVectors(sizes=sizes, forms=forms.diagonal(dim1=1, dim2=2), distances=distances),
        forms=forms,
        num_samples=num_samples,
        gradients=BatchGradients(
            losses=losses[:, 0], distances=distance[:, 0], projections=projections
        ),
    )


def _sample_products(
    loss: TrainingLoss, position: Tensor, vectors: Tensor, filling: Filling
) -> Tensor:
    positions, sample = Positions.of(loss), int(position)
    columns = loss.columns_of(vectors)

    def product() -> Tensor:
        # transposed in the end, so that columns are contiguous with any number of processes: sums
        # over them round by their layout
        total = torch.zeros(len(columns), loss.size, dtype=torch.float64, device=loss.device)
        for batch in loss.sample.batches:
            rows = positions.rows(batch)
            if rows.start <= sample < rows.stop:
                alone = filling.some_of(batch, [sample - rows.start])
                found = _derivatives(loss, alone, columns)
                if found is not None:
                    total += found[2].T
        return total

    return loss.processes.sum(on_all_or_none(loss.processes, product)).to(loss.dtype).T


def _derivatives(
    loss: TrainingLoss, batch: FrozenBatch, columns: list[list[Tensor]]
) -> tuple[float, Tensor, Tensor] | None:
    """The loss of any batch, its gradient ``(n,)`` and products ``(n, b)``, in float64."""
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
