"""A Krylov basis in half the memory of float32."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_hessian.linalg.basis import Basis, gram


class RoundedBasis(Basis):
    """The same with entries of 16 bits: half the memory of float32.

    Rounding a unit vector to 8 significant bits moves it by about 1.1e-3 in a random direction.
    The rows ``R`` as rounded are what the space is made of: with the Cholesky factor of their Gram
    matrix ``R R^T = L L^T``, which is measured, ``Q^T = L^-1 R`` is orthonormal to the arithmetic's
    own rounding, and all products are with this ``Q``. What is lost is that the space is no longer
    exactly a Krylov space: an appended block is not what came in, but moved by :attr:`drift`.

    Args:
        size: Length ``n`` of a vector.
        capacity: Most rows that will be appended.
        dtype: Of the arithmetic.
        device: Where the rows are kept, and where the arithmetic is done.
    """

    def __init__(
        self, size: int, *, capacity: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        super().__init__(size, capacity=capacity, dtype=dtype, device=device)
        self._factor = torch.zeros(0, 0, dtype=torch.float64, device=device)

    def append(self, block: Tensor) -> Tensor:
        """Add rows, rounded.

        Args:
            block: ``(b, n)``, on this device, in the type of the arithmetic.

        Returns:
            ``(b, n)``, the nearest orthonormal rows that the basis can stand for.
        """
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
        """Coordinates of vectors in the orthonormal basis, ``L^-1 R V``.

        Args:
            rows: ``(b, n)``, the vectors as rows.

        Returns:
            ``(k, b)``.
        """
        products = self._products(rows)
        components: Tensor = torch.linalg.solve_triangular(self._factor, products, upper=False)
        return components.to(rows.dtype)

    def subtract(self, rows: Tensor, components: Tensor) -> None:
        """Take ``R^T L^-T c`` away from vectors, in place.

        Args:
            rows: ``(b, n)``, contiguous.
            components: ``(k, b)``.
        """
        weights = torch.linalg.solve_triangular(self._factor.T, components.double(), upper=True)
        super().subtract(rows, weights.to(rows.dtype))

    def head(self, count: int) -> Basis:
        """The first rows, as a basis that shares the memory.

        Args:
            count: How many.

        Returns:
            The same rows; what is appended later to the one is not in the other.
        """
        first = super().head(count)
        assert isinstance(first, RoundedBasis)
        first._factor = self._factor[:count, :count]
        return first

    def rows(self) -> Tensor:
        """All orthonormal rows in the type of the arithmetic, a copy.

        Returns:
            ``(k, n)``.
        """
        eye = torch.eye(len(self), dtype=self.dtype, device=self.device)
        return self.combine(eye).T

    def _empty(self, count: int) -> Tensor:
        return torch.empty(count, self.size, dtype=torch.bfloat16, device=self.device)
