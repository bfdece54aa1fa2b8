"""The state of a block Krylov method between two blocks of products."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from lightning_hessian.linalg.basis import BasisKind, FullBasis, make_basis
from lightning_hessian.linalg.operator import SymmetricOperator
from lightning_hessian.linalg.orthogonalization import orthonormal_rows, refill, remainder_of


class BlockSweep:
    """A growing basis of a block Krylov space, and the products of its vectors seen through it."""

    raw: Tensor
    """``(capacity, capacity)`` float64, whose first ``(k, k)`` are ``Q^T A Q`` as measured: above
    the diagonal by projection, below it by what led to the next block."""
    outflow: Tensor
    """``(r, k)`` float64, coordinates in the next block of what leads out of the space."""
    start: Tensor
    """``(b', b)`` float64, coordinates of the probes in the first block."""
    dropped: float
    """Norm of what was dropped as dependent, or by restarts."""
    moved: Tensor | None
    """``(k,)`` norms of what is missing in ``A Q = Q T + F`` because storing a block moved it; None
    where it does not."""

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
        self.dropped = 0.0
        self.moved = None

    @property
    def has_room(self) -> bool:
        """Whether another block fits: a whole one, or what is left of R^n."""
        left = len(self.raw) - len(self.vectors)
        return left >= self._width or (left > 0 and len(self.raw) == self.vectors.size)

    def step(self, generator: torch.Generator) -> None:
        """Multiply the next block and take it in; dependent directions are drawn anew.

        Waits for the device once, where no direction turns out dependent.
        """
        done = len(self.vectors)
        width = min(self._width, self.vectors.size - done)
        entering = self.outflow[:width]
        stored = self.vectors.append(refill(self._block[:width], self.vectors, width, generator))
        self._block = stored  # frees the memory of the next block before the products need it
        vectors = stored.T.to(self._operator.device)
        del stored
        # a caller holds what it hands on, up to Python 3.10: products are made where they are freed
        multiply = partial(self._operator.matmat, vectors)
        rest = remainder_of(self.vectors, multiply, expected_scale=self._scale)
        end = len(self.vectors)
        self.raw[:end, done:end] = rest.components
        if isinstance(self.vectors, FullBasis):
            self.raw[done : done + len(entering), :done] = entering
        else:
            # the block is no longer quite what led to it: what counts is the product's projection
            self.raw[done:end, :done] = rest.components[:done].T
            moved = torch.zeros(end, dtype=torch.float64)
            moved[:done] = rest.drift * entering.norm(dim=0)
            if self.moved is not None:
                moved[: len(self.moved)] += self.moved
            self.moved = moved
        self._block, self._scale = rest.block, rest.scale
        self.dropped = max(self.dropped, rest.lost)
        self.outflow = torch.zeros(len(rest.coupling), end, dtype=torch.float64)
        self.outflow[:, done:] = rest.coupling
        self.num_blocks += 1

    def restart(self, values: Tensor, coordinates: Tensor) -> None:
        """Keep some Ritz pairs ``(l,)``, ``(k, l)`` only, in place; the next block stays as it is.

        The products' asymmetry, seen for the last time, and the rounding of the rotation go on as
        dropped.
        """
        assert isinstance(self.vectors, FullBasis)
        known = self.raw[: len(self.vectors), : len(self.vectors)]
        asymmetry = float(torch.linalg.matrix_norm(known - known.T))
        rounding = 2 * torch.finfo(self.vectors.dtype).eps * float(values.abs().max())
        self.dropped = math.hypot(self.dropped, asymmetry) + rounding
        self.vectors.rotate(coordinates)
        self.raw.zero_()
        self.raw.diagonal()[: len(values)] = values
        self.outflow = self.outflow @ coordinates
        self.start = coordinates.T[:, : len(self.start)] @ self.start
