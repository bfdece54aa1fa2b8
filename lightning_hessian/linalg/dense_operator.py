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

    Example:
        >>> operator = DenseOperator(torch.tensor([[2.0, 1.0], [1.0, 2.0]]))
        >>> operator.matmat(torch.tensor([[1.0], [1.0]])).flatten().tolist()
        [3.0, 3.0]
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
        self.size, self.device, self.dtype = len(matrix), matrix.device, matrix.dtype

    def matmat(self, vectors: Tensor) -> Tensor:
        """Multiply a block of vectors ``(n, b)``."""
        check_block(vectors, self.size)
        return self._matrix @ vectors
