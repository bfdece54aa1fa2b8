"""What the layers ask of each other."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class Shaped(Protocol):
    """Something of ``n`` dimensions, computed on a device in a floating-point type."""

    @property
    def size(self) -> int:
        """Number of dimensions, ``n``."""

    @property
    def device(self) -> torch.device:
        """Where results are computed and returned."""

    @property
    def dtype(self) -> torch.dtype:
        """Of the results."""


class SymmetricOperator(Shaped, Protocol):
    """A real symmetric ``(n, n)`` matrix known only by its products."""

    def matmat(self, vectors: Tensor) -> Tensor:
        """Multiply a block ``(n, b)``; a vector is a block of one."""


def check_block(vectors: Tensor, size: int) -> None:
    """Refuse what is not a block of column vectors.

    Args:
        vectors: To be multiplied.
        size: Number of rows of the operator.

    Raises:
        ValueError: If ``vectors`` is not ``(size, b)``.
    """
    if vectors.dim() != 2 or vectors.shape[0] != size:
        raise ValueError(
            f"`vectors` must have shape ({size}, b), got {tuple(vectors.shape)}. A single vector "
            "is a block of one: `v[:, None]`."
        )
