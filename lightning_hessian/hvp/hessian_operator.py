"""The Hessian of the training loss as an operator."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_hessian.linalg import TwiceDifferentiable, check_block


class HessianOperator:
    """``V -> H V`` for the Hessian ``H`` of a function at its present parameters.

    One product is one HVP over everything that the function averages, as exact as the function
    makes it; a block of exact ones shares the forward and the first backward pass.

    Args:
        function: For example :class:`lightning_hessian.objective.TrainingLoss`.
    """

    def __init__(self, function: TwiceDifferentiable) -> None:
        self._function = function

    @property
    def size(self) -> int:
        """Number of parameters, ``n``."""
        return self._function.size

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return self._function.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the products."""
        return self._function.dtype

    def matmat(self, vectors: Tensor) -> Tensor:
        """Multiply a block of vectors; costs ``b`` HVPs.

        Args:
            vectors: ``(n, b)``.

        Returns:
            ``(n, b)``.

        Raises:
            ValueError: If the shape does not fit.
        """
        check_block(vectors, self.size)
        return self._function.hessian_products(vectors)
