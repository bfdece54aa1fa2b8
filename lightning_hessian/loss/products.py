"""What a training loss holds to multiply vectors by its Hessian."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from lightning_hessian.records import ProductQuality


class Products(Protocol):
    """The Hessian at the present parameters as an operator, ``V -> H V``, and how true it is."""

    @property
    def size(self) -> int:
        """Number of parameters, ``n``."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Of the products."""
        ...

    @property
    def quality(self) -> ProductQuality:
        """How products are made, and what they are off by as far as is known now."""
        ...

    @property
    def graph_bytes(self) -> int:
        """Memory that is held from one product to the next."""
        ...

    def matmat(self, vectors: Tensor) -> Tensor:
        """Multiply a block ``(n, b)``, for ``b`` HVPs; columns of the result are contiguous."""
        ...

    def forget(self) -> None:
        """Let go of what holds at the present parameters only, as they are about to move."""
        ...


class LossProducts(Products, Protocol):
    """The same as a loss holds it, which takes its first derivatives there too."""

    def differentiate(self, index: int, weighted: Tensor) -> Sequence[Tensor | None]:
        """First derivatives of a batch's weighted loss by each parameter, without their graph.

        What can be used again by a product may be kept.
        """
        ...

    def sum_over_batches(self, length: int, add: Callable[[Tensor, int], None]) -> Tensor:
        """Sum a vector over the batches of all processes, of what ``add`` adds for each."""
        ...
