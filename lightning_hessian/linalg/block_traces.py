"""Traces of diagonal blocks from the same probes as the whole trace."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_hessian.linalg.krylov import KrylovSpace
from lightning_hessian.records import BlockTraces

COLUMNS = 8
"""Ritz vectors that are formed at a time."""


class BlockTraceSums:
    r"""Collects what the probes of a trace tell of diagonal blocks.

    With the space's projector ``Q Q^T``, ``P`` its complement's, a Rademacher probe ``z`` and the
    product ``A P z`` that the trace needs anyway, the trace over the rows of a block ``b`` is

        ``tr_b A = tr_b(Q T Q^T) + E sum_{i in b} z_i (A P z + Q Q^T A P z)_i``:

    the first is known, the other two are ``tr_b(A P)`` and ``tr_b(P A Q Q^T) = tr_b(Q Q^T A P)``.
    Unbiased for any basis that is independent of the probes. Costs no product.
    """

    def __init__(self, blocks: Sequence[Tensor], space: KrylovSpace | None) -> None:
        self._blocks = blocks
        self._space = space
        self._sums: list[Tensor] = []

    @property
    def has_blocks(self) -> bool:
        """Whether any was asked for."""
        return bool(self._blocks)

    def add(self, probes: Tensor, images: Tensor) -> None:
        """Take in probes, as before the projection, and products with their part outside."""
        whole = images
        if self._space is not None:
            basis = self._space.vectors.head(self._space.dimension)
            rows = images.T.to(basis.device).contiguous()
            inside = basis.combine(basis.components(rows))
            whole = images + inside.to(images.device)
        self._sums.append(self._over_blocks(probes * whole))

    def estimate(self) -> BlockTraces | None:
        """The traces from all probes so far; None if no block was asked for."""
        if not self._blocks:
            return None
        known = self._known()
        if not self._sums:  # the space is everything: roundings are left, as for the trace
            assert self._space is not None
            sizes = torch.tensor([len(block) for block in self._blocks], dtype=torch.float64)
            return BlockTraces(values=known, standard_errors=self._space.noise * sizes.sqrt())
        sums = torch.cat(self._sums, dim=1)
        count = sums.shape[1]
        errors = torch.full_like(known, math.nan)
        if count > 1:
            errors = sums.std(dim=1) / math.sqrt(count)
        return BlockTraces(values=known + sums.mean(dim=1), standard_errors=errors)

    def _known(self) -> Tensor:
        """``(B,)`` the blocks' traces of ``Q T Q^T``, by its eigenvectors."""
        total = torch.zeros(len(self._blocks), dtype=torch.float64)
        if self._space is None:
            return total
        values, coordinates = torch.linalg.eigh(self._space.projection)
        for start in range(0, len(values), COLUMNS):
            part = slice(start, start + COLUMNS)
            squares = self._space.combine(coordinates[:, part]).square()
            total += self._over_blocks(squares) @ values[part]
        return total

    def _over_blocks(self, columns: Tensor) -> Tensor:
        """``(B, b)`` float64, sums over the rows of each block."""
        sums = [
            columns[block.to(columns.device)].sum(dim=0, dtype=torch.float64)
            for block in self._blocks
        ]
        return torch.stack(sums).cpu()
