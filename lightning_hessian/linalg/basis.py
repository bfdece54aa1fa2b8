"""Where the vectors of a Krylov space are kept."""

from __future__ import annotations

import torch
from torch import Tensor

CHUNK_BYTES = 2**25
TILE = 2**14
"""Entries of a vector that one product in its own type sums over; sums of these are in float64.

A product of few float32 rows sums in few accumulators: over 3e5 entries it was seen to be off by
1e-5, and by more the longer they are. Copies, where they are needed, are of as many entries.
"""


def inner_products(rows: Tensor, others: Tensor) -> Tensor:
    """All inner products of two sets of vectors, accurate for any length.

    Args:
        rows: ``(a, n)``.
        others: ``(b, n)``, of this or a lower precision.

    Returns:
        ``(a, b)`` float64.
    """
    size = rows.shape[1]
    if size <= TILE:
        return (rows @ others.to(rows.dtype).T).double()
    total = torch.zeros(len(rows), len(others), dtype=torch.float64, device=rows.device)
    for start in range(0, size, TILE):
        columns = slice(start, start + TILE)
        total += rows[:, columns] @ others[:, columns].to(rows.dtype).T
    return total


def gram(rows: Tensor) -> Tensor:
    """Gram matrix of a block, summed in float64: signs that are all alike round all one way.

    Args:
        rows: ``(b, n)``.

    Returns:
        ``(b, b)`` float64.
    """
    total = torch.zeros(len(rows), len(rows), dtype=torch.float64, device=rows.device)
    for start in range(0, rows.shape[1], TILE):
        tile = rows[:, start : start + TILE].double()
        total.addmm_(tile, tile.T)
    return total


class Basis:
    """Orthonormal vectors, the rows of ``Q^T`` ``(k, n)``, allocated in chunks as they come.

    All products with it are matrix products over the rows, without a copy of any of them, and none
    makes a device wait.

    Args:
        size: Length ``n`` of a vector.
        capacity: Most rows that will be appended.
        dtype: Of the vectors, and of the arithmetic with them.
        device: Where they are kept, and where the arithmetic is done.
    """

    def __init__(
        self, size: int, *, capacity: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self.size = size
        self.dtype = dtype
        self.device = device
        self.drift = torch.zeros((), dtype=torch.float64, device=device)
        """Norm of what storing the last block moved it by, on the device."""
        self._capacity = capacity
        self._chunks: list[Tensor] = []
        self._filled: list[int] = []

    def __len__(self) -> int:
        return sum(self._filled)

    def append(self, block: Tensor) -> Tensor:
        """Add orthonormal rows that are orthogonal to the others.

        Args:
            block: ``(b, n)``, on this device, in this type.

        Returns:
            ``(b, n)``, the rows as the basis has them from now on; not to be written to.
        """
        return self._write(block)

    def components(self, rows: Tensor) -> Tensor:
        """Coordinates of vectors in the basis, ``Q^T V``.

        Args:
            rows: ``(b, n)``, the vectors as rows.

        Returns:
            ``(k, b)``.
        """
        return self._products(rows).to(rows.dtype)

    def subtract(self, rows: Tensor, components: Tensor) -> None:
        """Take ``Q c`` away from vectors, in place.

        Args:
            rows: ``(b, n)``, contiguous.
            components: ``(k, b)``.
        """
        start = 0
        for chunk in self._used():
            weights = components[start : start + len(chunk)].T
            start += len(chunk)
            if chunk.dtype == rows.dtype:
                rows.addmm_(weights, chunk, alpha=-1)
                continue
            for column in range(0, self.size, TILE):
                columns = slice(column, column + TILE)
                rows[:, columns].addmm_(weights, chunk[:, columns].to(rows.dtype), alpha=-1)

    def without(self, rows: Tensor, components: Tensor) -> Tensor:
        """The same as :meth:`subtract`, into new memory.

        Args:
            rows: ``(b, n)``, of any layout.
            components: ``(k, b)``.

        Returns:
            ``(b, n)``, contiguous.
        """
        rest = rows.clone(memory_format=torch.contiguous_format)
        self.subtract(rest, components)
        return rest

    def project_out(self, rows: Tensor) -> Tensor:
        """Remove from vectors, in place, what they have in common with the basis, in two passes.

        Two are enough (Kahan, quoted by Parlett 1998, section 6.9).

        Args:
            rows: ``(b, n)``, contiguous.

        Returns:
            ``(k, b)`` float64 on this device, the coordinates removed.
        """
        first = self.components(rows)
        self.subtract(rows, first)
        second = self.components(rows)
        self.subtract(rows, second)
        return first.double() + second

    def combine(self, coordinates: Tensor) -> Tensor:
        """Make vectors of coordinates, ``Q c``.

        Args:
            coordinates: ``(k, m)``.

        Returns:
            ``(n, m)``, columns contiguous in memory.
        """
        weights = coordinates.to(self.device, self.dtype)
        rows = torch.zeros(weights.shape[1], self.size, dtype=self.dtype, device=self.device)
        self.subtract(rows, -weights)
        return rows.T

    def head(self, count: int) -> Basis:
        """The first rows, as a basis that shares the memory.

        Args:
            count: How many.

        Returns:
            The same rows; what is appended later to the one is not in the other.
        """
        first = type(self)(self.size, capacity=count, dtype=self.dtype, device=self.device)
        first._chunks, first._filled = list(self._chunks), list(self._filled)
        first._keep(count)
        return first

    def rows(self) -> Tensor:
        """All rows in one tensor: a view where they lie in one chunk, else a copy.

        Returns:
            ``(k, n)``.
        """
        used = self._used()
        return used[0] if len(used) == 1 else torch.cat([self._empty(0), *used])

    def _keep(self, count: int) -> None:
        for index, filled in enumerate(self._filled):
            self._filled[index] = min(filled, count)
            count -= self._filled[index]
        while self._filled and self._filled[-1] == 0:
            self._filled.pop()
            self._chunks.pop()

    def _empty(self, count: int) -> Tensor:
        return torch.empty(count, self.size, dtype=self.dtype, device=self.device)

    def _used(self) -> list[Tensor]:
        return [c[:filled] for c, filled in zip(self._chunks, self._filled, strict=True)]

    def _write(self, block: Tensor) -> Tensor:
        count = len(block)
        if not self._chunks or self._filled[-1] + count > len(self._chunks[-1]):
            row = self.size * self._empty(0).element_size()
            missing = max(self._capacity - len(self), count)
            self._chunks.append(self._empty(min(max(CHUNK_BYTES // row, count), missing)))
            self._filled.append(0)
        start = self._filled[-1]
        self._filled[-1] += count
        place = self._chunks[-1][start : start + count]
        place.copy_(block)
        return place

    def _products(self, rows: Tensor) -> Tensor:
        """``(k, b)`` float64, inner products with what is stored."""
        empty = torch.zeros(len(rows), 0, dtype=torch.float64, device=rows.device)
        return torch.cat([empty, *(inner_products(rows, chunk) for chunk in self._used())], dim=1).T


class FullBasis(Basis):
    """One that keeps the type of the arithmetic."""

    def components(self, rows: Tensor) -> Tensor:
        """Coordinates of vectors in the basis, ``Q^T V``.

        Args:
            rows: ``(b, n)``, the vectors as rows.

        Returns:
            ``(k, b)``.
        """
        if len(self._chunks) == 1 and self.size <= TILE:
            # what short vectors take, without the detour; this way round is the faster by a third
            return (rows @ self._used()[0].T).T
        return super().components(rows)

    def without(self, rows: Tensor, components: Tensor) -> Tensor:
        """The same as :meth:`subtract`, into new memory, by one product where one chunk holds all.

        Args:
            rows: ``(b, n)``, of any layout.
            components: ``(k, b)``.

        Returns:
            ``(b, n)``, contiguous.
        """
        used = self._used()
        if len(used) == 1:
            return torch.addmm(rows, components.T, used[0], alpha=-1)
        return super().without(rows, components)

    def rotate(self, coordinates: Tensor) -> None:
        """Replace the rows by fewer combinations of them, ``Q <- Q S``, tile by tile in place.

        Args:
            coordinates: ``S`` ``(k, m)`` with orthonormal columns, ``m <= k``.
        """
        weights = coordinates.T.to(self.device, self.dtype)
        for start in range(0, self.size, TILE):
            columns = slice(start, start + TILE)
            tile = weights @ torch.cat([chunk[:, columns] for chunk in self._used()])
            offset = 0
            for chunk in self._used():
                part = tile[offset : offset + len(chunk)]
                chunk[: len(part), columns] = part
                offset += len(part)
        self._keep(len(weights))
