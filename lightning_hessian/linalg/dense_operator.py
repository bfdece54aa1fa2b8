"""A matrix as an operator: the reference that estimators are tested against."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_hessian.linalg.operator import check_block


class DenseOperator:
    """``V -> A V`` for a symmetric matrix that is held in memory.

    Args:
        matrix: ``(n, n)``, symmetric.

    Raises:
        ValueError: If the matrix is not square, empty, or not symmetric to its rounding.
    """

    def __init__(self, matrix: Tensor) -> None:
        if matrix.dim() != 2 or matrix.shape[0] != matrix.shape[1] or matrix.shape[0] == 0:
            raise ValueError(f"`matrix` must be square, (n, n), got {tuple(matrix.shape)}.")
        rounding = 100 * torch.finfo(matrix.dtype).eps * float(matrix.abs().max())
        asymmetry = float((matrix - matrix.T).abs().max())
        if asymmetry > rounding:
            raise ValueError(
                f"`matrix` must be symmetric, got a largest |A - A^T| of {asymmetry:.3g}. Give "
                "`(A + A.T) / 2` if that is what you mean."
            )
        self._matrix = matrix

    @property
    def size(self) -> int:
        """Number of rows, ``n``."""
        return self._matrix.shape[0]

    @property
    def device(self) -> torch.device:
        """Of the matrix."""
        return self._matrix.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the matrix."""
        return self._matrix.dtype

    def matmat(self, vectors: Tensor) -> Tensor:
        """Multiply a block of vectors.

        Args:
            vectors: ``(n, b)``.

        Returns:
            ``(n, b)``.
        """
        check_block(vectors, self.size)
        return self._matrix @ vectors
