"""What an estimator asks of an operator."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class SymmetricOperator(Protocol):
    """A real symmetric matrix known only by its products."""

    @property
    def size(self) -> int:
        """Number of rows and columns."""
        ...

    @property
    def device(self) -> torch.device:
        """Where products are computed and returned."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the products."""
        ...

    def matmat(self, vectors: Tensor) -> Tensor:
        """Multiply a block ``(size, b)``; a vector is a block of one."""
        ...
