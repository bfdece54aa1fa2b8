"""A diagonal block of an operator."""

from __future__ import annotations

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

    Example:
        >>> import torch
        >>> from lightning_hessian.linalg import DenseOperator
        >>> whole = DenseOperator(torch.diag(torch.arange(5.0)))
        >>> block = BlockOperator(whole, torch.tensor([1, 4]))
        >>> block.matmat(torch.eye(2)).tolist()
        [[1.0, 0.0], [0.0, 4.0]]
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
        self.size, self.device, self.dtype = count, operator.device, operator.dtype

    def matmat(self, vectors: Tensor) -> Tensor:
        """Multiply a block of vectors ``(m, b)``; costs as many products of the whole."""
        check_block(vectors, self.size)
        rows = vectors.new_zeros(vectors.shape[1], self._operator.size)
        rows[:, self._block] = vectors.T
        return self._operator.matmat(rows.T)[self._block]
