"""A diagonal block of an operator."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_hessian.linalg.operator import SymmetricOperator, check_block


class BlockOperator:
    """``V -> (A (V on the block, 0 elsewhere)) on the block``: the Hessian of some parameters.

    Its eigenvalues are within the range of those of ``A`` (Cauchy's interlacing). One product is
    one of ``A``.

    Args:
        operator: The whole, ``(n, n)``.
        block: ``(m,)`` positions, each once.

    Raises:
        ValueError: If the block is empty, repeats a position or leaves the operator.
    """

    def __init__(self, operator: SymmetricOperator, block: Tensor) -> None:
        count = len(block)
        if count == 0 or len(block.unique()) < count:
            raise ValueError(
                f"`block` must hold at least one position, each once, got {count} of which "
                f"{len(block.unique())} are different."
            )
        if int(block.min()) < 0 or int(block.max()) >= operator.size:
            raise ValueError(
                f"`block` must hold positions from 0 to {operator.size - 1}, got "
                f"{int(block.min())} to {int(block.max())}."
            )
        self._operator = operator
        self._block = block.to(operator.device)

    @property
    def size(self) -> int:
        """Number of positions, ``m``."""
        return len(self._block)

    @property
    def device(self) -> torch.device:
        """Of the whole operator."""
        return self._operator.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the products."""
        return self._operator.dtype

    def matmat(self, vectors: Tensor) -> Tensor:
        """Multiply a block of vectors; costs as many products of the whole operator.

        Args:
            vectors: ``(m, b)``.

        Returns:
            ``(m, b)``.

        Raises:
            ValueError: If the shape does not fit.
        """
        check_block(vectors, self.size)
        rows = vectors.new_zeros(vectors.shape[1], self._operator.size)
        rows[:, self._block] = vectors.T
        return self._operator.matmat(rows.T)[self._block]
