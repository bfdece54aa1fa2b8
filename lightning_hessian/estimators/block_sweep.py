"""The state of a block Krylov method between two blocks of products."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_hessian.estimators.basis import BasisKind, FullBasis, make_basis
from lightning_hessian.estimators.orthogonalization import orthonormal_rows, refill, remainder_of
from lightning_hessian.types import SymmetricOperator


class BlockSweep:
    """A growing basis of a block Krylov space, and the products of its vectors seen through it.

    Args:
        operator: Symmetric, ``(n, n)``.
        probes: ``(n, b)`` block to start from.
        max_dimension: Most vectors in the basis, by whole blocks; one block at least.
        basis: How its vectors are kept.

    Attributes:
        vectors: The basis, ``k`` vectors.
        raw: ``(capacity, capacity)`` float64, whose first ``(k, k)`` are ``Q^T A Q`` as measured:
            above the diagonal by projection, below it by what led to the next block.
        outflow: ``(r, k)`` float64, coordinates in the next block of what leads out of the space.
        start: ``(b', b)`` float64, coordinates of the probes in the first block.
        num_blocks: Block steps done.
    """

    def __init__(
        self,
        operator: SymmetricOperator,
        probes: Tensor,
        *,
        max_dimension: int,
        basis: BasisKind = "full",
    ) -> None:
        size, self._width = operator.size, min(probes.shape[1], operator.size)
        blocks = max(max_dimension // self._width, 1)
        capacity = size if max_dimension >= size else blocks * self._width
        self._operator = operator
        self.vectors = make_basis(basis, operator, capacity=capacity)
        self.raw = torch.zeros(capacity, capacity, dtype=torch.float64)
        rows = probes.T.to(self.vectors.device, operator.dtype)
        self._block, self.start, _ = orthonormal_rows(rows, self.vectors, 0.0)
        self.outflow = torch.zeros(0, 0, dtype=torch.float64)
        self.num_blocks = 0
        self._scale = 1.0
        self._dropped = 0.0
        self._moved = 0.0

    @property
    def has_room(self) -> bool:
        """Whether another block fits: a whole one, or what is left of R^n."""
        left = len(self.raw) - len(self.vectors)
        return left >= self._width or (left > 0 and len(self.raw) == self.vectors.size)

    @property
    def lost(self) -> float:
        """Norm of what is missing in ``A Q = Q T + F``: dropped, or moved by storing it."""
        return self._dropped + self._moved

    def step(self, generator: torch.Generator) -> None:
        """Multiply the next block and take it in.

        Waits for the device once, where no direction turns out dependent.

        Args:
            generator: Source of replacements for dependent directions, on the CPU.
        """
        done = len(self.vectors)
        width = min(self._width, self.vectors.size - done)
        entering = self.outflow[:width]
        stored = self.vectors.append(refill(self._block[:width], self.vectors, width, generator))
        self._block = stored  # frees the memory of the next block before the products need it
        images = self._operator.matmat(stored.T.to(self._operator.device))
        rest = remainder_of(self.vectors, images, expected_scale=self._scale)
        end = len(self.vectors)
        self.raw[:end, done:end] = rest.components
        if isinstance(self.vectors, FullBasis):
            self.raw[done : done + len(entering), :done] = entering
        else:
            # the block is no longer quite what led to it: what counts is the product's projection
            self.raw[done:end, :done] = rest.components[:done].T
            carried = float(torch.linalg.matrix_norm(entering)) if entering.numel() else 0.0
            self._moved = math.hypot(self._moved, rest.drift * carried)
        self._block, self._scale = rest.block, rest.scale
        self._dropped = max(self._dropped, rest.lost)
        self.outflow = torch.zeros(len(rest.coupling), end, dtype=torch.float64)
        self.outflow[:, done:] = rest.coupling
        self.num_blocks += 1

    def restart(self, values: Tensor, coordinates: Tensor) -> None:
        """Keep some Ritz vectors only, in place; the next block stays what it is.

        Args:
            values: ``(l,)`` Ritz values.
            coordinates: ``(k, l)`` orthonormal columns, their vectors in the basis.
        """
        assert isinstance(self.vectors, FullBasis)
        self.vectors.rotate(coordinates)
        self.raw.zero_()
        self.raw.diagonal()[: len(values)] = values
        self.outflow = self.outflow @ coordinates
        self.start = coordinates.T[:, : len(self.start)] @ self.start
