"""Where the vectors of a Krylov space are kept: in full, in half the bytes, or off the device."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from lightning_hessian.linalg.operator import Shaped

BasisKind = Literal["full", "bfloat16", "cpu"]
BASIS_KINDS: tuple[BasisKind, ...] = ("full", "bfloat16", "cpu")
CHUNK_BYTES = 2**25
TILE = 2**14
"""Entries of a vector that one product in its own type sums over; sums of these are in float64.

A product of few float32 rows sums in few accumulators: over 3e5 entries it was seen to be off by
1e-5, and by more the longer they are. Copies, where they are needed, are of as many entries.
"""


def make_basis(kind: BasisKind, operator: Shaped, *, capacity: int) -> Basis:
    """An empty basis for an operator's vectors, of at most ``capacity`` of them."""
    # "full" keeps the operator's type on its device; "bfloat16" keeps 16 bits of each entry; "cpu"
    # keeps the operator's type in the host's memory, where the orthogonalisation is then done too:
    # a block goes there and back for each block of products
    if kind not in BASIS_KINDS:
        raise ValueError(
            f"`basis` must be one of {', '.join(map(repr, BASIS_KINDS))}, got {kind!r}."
        )
    device = torch.device("cpu") if kind == "cpu" else operator.device
    storage = RoundedBasis if kind == "bfloat16" else FullBasis
    return storage(operator.size, capacity=capacity, dtype=operator.dtype, device=device)


def vector_bytes(kind: BasisKind, operator: Shaped) -> int:
    """Bytes of one vector of a basis of this kind."""
    return operator.size * (2 if kind == "bfloat16" else operator.dtype.itemsize)


def inner_products(rows: Tensor, others: Tensor) -> Tensor:
    """``(a, b)`` float64, of ``(a, n)`` with ``(b, n)`` of no higher precision, for any length."""
    size = rows.shape[1]
    if size <= TILE:
        return (rows @ others.to(rows.dtype).T).double()
    total = torch.zeros(len(rows), len(others), dtype=torch.float64, device=rows.device)
    for start in range(0, size, TILE):
        columns = slice(start, start + TILE)
        total += rows[:, columns] @ others[:, columns].to(rows.dtype).T
    return total


def gram(rows: Tensor) -> Tensor:
    """``(b, b)`` of a block, summed in float64: signs that are all alike round all one way."""
    total = torch.zeros(len(rows), len(rows), dtype=torch.float64, device=rows.device)
    for start in range(0, rows.shape[1], TILE):
        tile = rows[:, start : start + TILE].double()
        total.addmm_(tile, tile.T)
    return total


class Basis:
    """Orthonormal vectors, the rows of ``Q^T`` ``(k, n)``, allocated in chunks as they come.

    All products with it are matrix products over the rows, without a copy of any of them, and none
    makes a device wait. Vectors are rows throughout, ``(b, n)``; coordinates ``(k, b)``.
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
        """Add orthonormal rows, orthogonal to the others; gives them as kept, not to be written."""
        return self._write(block)

    def components(self, rows: Tensor) -> Tensor:
        """Coordinates of vectors in the basis, ``Q^T V``."""
        return self._products(rows).to(rows.dtype)

    def subtract(self, rows: Tensor, components: Tensor) -> None:
        """Take ``Q c`` away from contiguous rows, in place."""
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
        """The same as :meth:`subtract`, of rows of any layout, into new contiguous memory."""
        rest = rows.clone(memory_format=torch.contiguous_format)
        self.subtract(rest, components)
        return rest

    def project_out(self, rows: Tensor) -> Tensor:
        """Take out of contiguous rows, in place, what they share with the basis; gives that."""
        # two passes are enough (Kahan, quoted by Parlett 1998, section 6.9)
        first = self.components(rows)
        self.subtract(rows, first)
        second = self.components(rows)
        self.subtract(rows, second)
        return first.double() + second

    def combine(self, coordinates: Tensor) -> Tensor:
        """Vectors ``Q c`` ``(n, m)`` of coordinates ``(k, m)``, columns contiguous in memory."""
        weights = coordinates.to(self.device, self.dtype)
        rows = torch.zeros(weights.shape[1], self.size, dtype=self.dtype, device=self.device)
        self.subtract(rows, -weights)
        return rows.T

    def head(self, count: int) -> Basis:
        """The first rows, as a basis that shares the memory but not what is appended later."""
        first = type(self)(self.size, capacity=count, dtype=self.dtype, device=self.device)
        first._chunks, first._filled = list(self._chunks), list(self._filled)
        first._keep(count)
        return first

    def rows(self) -> Tensor:
        """All rows ``(k, n)`` in one tensor: a view where they lie in one chunk, else a copy."""
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
        """Coordinates of vectors in the basis, ``Q^T V``."""
        if len(self._chunks) == 1 and self.size <= TILE:
            # what short vectors take, without the detour; this way round is the faster by a third
            return (rows @ self._used()[0].T).T
        return super().components(rows)

    def without(self, rows: Tensor, components: Tensor) -> Tensor:
        """The same as :meth:`subtract`, into new memory; one product where one chunk holds all."""
        used = self._used()
        if len(used) == 1:
            return torch.addmm(rows, components.T, used[0], alpha=-1)
        return super().without(rows, components)

    def rotate(self, coordinates: Tensor) -> None:
        """Replace the rows by fewer combinations, ``Q <- Q S``, tile by tile in place.

        ``S`` is ``(k, m)`` with orthonormal columns.
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


class RoundedBasis(Basis):
    """The same with entries of 16 bits: half the memory of float32.

    Rounding a unit vector to 8 significant bits moves it by about 1.1e-3 in a random direction.
    The rows ``R`` as rounded are what the space is made of: with the Cholesky factor of their Gram
    matrix ``R R^T = L L^T``, which is measured, ``Q^T = L^-1 R`` is orthonormal to the arithmetic's
    own rounding, and all products are with this ``Q``. What is lost is that the space is no longer
    exactly a Krylov space: an appended block is not what came in, but moved by :attr:`drift`.
    """

    def __init__(
        self, size: int, *, capacity: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        super().__init__(size, capacity=capacity, dtype=dtype, device=device)
        self._factor = torch.zeros(0, 0, dtype=torch.float64, device=device)

    def append(self, block: Tensor) -> Tensor:
        """Add rows, rounded; gives the nearest orthonormal rows that the basis can stand for."""
        known = len(self)
        rounded = block.bfloat16().to(self.dtype)
        shared = self.components(rounded)
        self.subtract(rounded, shared)
        corner = torch.linalg.cholesky_ex(gram(rounded))[0]
        self._write(block)
        factor = torch.zeros(len(self), len(self), dtype=torch.float64, device=self.device)
        factor[:known, :known] = self._factor
        factor[known:, :known] = shared.T
        factor[known:, known:] = corner
        self._factor = factor
        rows: Tensor = torch.linalg.solve_triangular(corner.to(self.dtype), rounded, upper=False)
        torch.sub(rows, block, out=rounded)
        self.drift = torch.linalg.vector_norm(rounded, dtype=torch.float64)
        return rows

    def components(self, rows: Tensor) -> Tensor:
        """Coordinates of vectors in the orthonormal basis, ``L^-1 R V``."""
        products = self._products(rows)
        components: Tensor = torch.linalg.solve_triangular(self._factor, products, upper=False)
        return components.to(rows.dtype)

    def subtract(self, rows: Tensor, components: Tensor) -> None:
        """Take ``R^T L^-T c`` away from contiguous rows, in place."""
        weights = torch.linalg.solve_triangular(self._factor.T, components.double(), upper=True)
        super().subtract(rows, weights.to(rows.dtype))

    def head(self, count: int) -> Basis:
        """The first rows, as a basis that shares the memory but not what is appended later."""
        first = super().head(count)
        assert isinstance(first, RoundedBasis)
        first._factor = self._factor[:count, :count]
        return first

    def rows(self) -> Tensor:
        """All orthonormal rows ``(k, n)`` in the type of the arithmetic, a copy."""
        eye = torch.eye(len(self), dtype=self.dtype, device=self.device)
        return self.combine(eye).T

    def _empty(self, count: int) -> Tensor:
        return torch.empty(count, self.size, dtype=torch.bfloat16, device=self.device)
