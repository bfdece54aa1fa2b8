"""Block Lanczos with full reorthogonalisation: the one sweep that answers everything."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_hessian.linalg.basis import Basis, BasisKind
from lightning_hessian.linalg.block_sweep import BlockSweep
from lightning_hessian.linalg.operator import SymmetricOperator
from lightning_hessian.linalg.probes import signs_for

ROUNDINGS = 64
"""Share of the operator's norm, in machine epsilons, added to every bound.

A loss evaluated with rounding has a Hessian slightly off, yet symmetric, so that no product shows
it. It was seen to move the eigenvalues of a trained classifier by up to 13 epsilons of float32.
"""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KrylovSpace:
    """An orthonormal basis ``Q`` of a block Krylov space, and the operator ``A`` seen through it.

    ``A Q = Q T + F`` with ``F`` orthogonal to ``Q``; ``F`` is ``Q_next`` times ``outflow``, which
    has non-zero columns for the last block only (after a restart for the vectors kept, too). What
    breaks this relation is at most :attr:`noise` in norm.

    Attributes:
        vectors: The basis, of ``k`` vectors of length ``n``; later steps of the sweep add to it.
        projection: ``(k, k)`` float64 on the CPU, ``T = Q^T A Q`` made symmetric.
        outflow: ``(r, k)`` float64, coordinates of ``F`` in ``Q_next``; no rows when the space is
            the whole of R^n or invariant.
        start: ``(k, b)`` float64, coordinates of the probes that the sweep started from.
        num_blocks: Block steps done.
        product_noise: Norm of what inexact products add to ``T``: twice the measured antisymmetric
            part, which exact products would not have, 64 roundings of the norm, what was dropped as
            dependent, and the error that the products are known to have.
        moved: ``(k,)`` norms of the columns of what is missing in the relation because a rounded
            basis moves each block that enters, orthogonal to ``Q``; None for an exact one.
    """

    vectors: Basis
    projection: Tensor
    outflow: Tensor
    start: Tensor
    num_blocks: int
    product_noise: float
    moved: Tensor | None = None

    @property
    def noise(self) -> float:
        """Norm of all that breaks the relation, for any vector of the space."""
        moved = 0.0 if self.moved is None else float(self.moved.norm())
        return self.product_noise + moved

    @property
    def basis(self) -> Tensor:
        """``(k, n)``, orthonormal rows, in the operator's type; a copy where kept in chunks."""
        return self.vectors.head(self.dimension).rows()

    @property
    def size(self) -> int:
        """Number of dimensions ``n`` of the operator."""
        return self.vectors.size

    @property
    def dimension(self) -> int:
        """Number of basis vectors ``k``; each cost one product."""
        return self.projection.shape[0]

    @property
    def is_whole(self) -> bool:
        """Whether the space is the whole of R^n, so that its Ritz values are all eigenvalues."""
        return self.dimension == self.size

    def remove_from(self, vectors: Tensor) -> Tensor:
        """Project a block ``(n, b)`` onto the complement, ``(I - Q Q^T) V``, to its rounding."""
        basis = self.vectors.head(self.dimension)
        rows = vectors.T.to(basis.device).clone(memory_format=torch.contiguous_format)
        basis.project_out(rows)
        return rows.T.to(vectors.device)

    def combine(self, coordinates: Tensor) -> Tensor:
        """Vectors ``Q c`` ``(n, m)`` of coordinates ``(k, m)``, where the basis is kept."""
        return self.vectors.head(self.dimension).combine(coordinates)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RitzPairs:
    """Eigenpairs ``(theta, s)`` of the projection ``T``, ascending.

    The bound is the residual norm ``||A y - theta y|| = ||F s||`` of the pair plus the space's
    noise, of a rounded basis the share in that pair (Parlett 1998, theorem 4.5.1).

    Attributes:
        values: ``(k,)`` float64.
        vectors: ``(k, k)`` float64, columns, coordinates in the basis.
        bounds: ``(k,)``; an eigenvalue of the operator lies within this distance of each value.
    """

    values: Tensor
    vectors: Tensor
    bounds: Tensor

    @classmethod
    def of(cls, space: KrylovSpace) -> RitzPairs:
        """Diagonalise a space's projection: all ``k`` pairs."""
        values, vectors = torch.linalg.eigh(space.projection)
        bounds = (space.outflow @ vectors).norm(dim=0) + space.product_noise
        if space.moved is not None:
            bounds += space.moved @ vectors.abs()
        return cls(values=values, vectors=vectors, bounds=bounds)

    @property
    def scale(self) -> float:
        """Largest magnitude, the operator's norm as far as it is known."""
        return float(self.values.abs().max()) if len(self.values) else 0.0

    @property
    def extent(self) -> float:
        """From the smallest value to the largest, zero among them: what tolerances refer to."""
        return max(float(self.values[-1] - self.values[0]), self.scale) if len(self.values) else 0.0


StoppingRule = Callable[[KrylovSpace], bool]
"""Watches a sweep: told the space after each block, says whether to stop."""


def never(_space: KrylovSpace) -> bool:
    """The rule of a sweep that goes on to its bound."""
    return False


def block_lanczos(
    operator: SymmetricOperator,
    probes: Tensor,
    *,
    max_dimension: int,
    generator: torch.Generator,
    should_stop: StoppingRule = never,
    product_error: Callable[[], float] = lambda: 0.0,
    basis: BasisKind = "full",
) -> KrylovSpace:
    """Grow a Krylov space block by block until ``should_stop`` or ``max_dimension``.

    Every new block is orthogonalised against the whole basis, twice, so no ghost copies appear. A
    direction that turns out dependent (the space is invariant) is replaced by a fresh random one:
    the sweep goes on to the rest of the spectrum, up to the whole of R^n. An eigenvalue of higher
    multiplicity than the block is wide is found as many times as the block is wide, until such a
    replacement finds another copy.

    Costs one product for each dimension of the space.

    Args:
        operator: Symmetric, ``(n, n)``.
        probes: ``(n, b)`` block to start from.
        max_dimension: Bound on the products; at least one block is done.
        generator: Source of replacements, on the CPU.
        should_stop: Told the space after each block, says whether to stop there.
        product_error: Norm of what the products are off by, asked after each block.
        basis: "full" keeps the vectors in the operator's type on its device; "bfloat16" in 16 bits,
            at the price of wider bounds; "cpu" in the host's memory.

    Returns:
        The space at the end.

    Raises:
        ValueError: If the basis is of an unknown kind.
        NonFiniteError: If a product holds NaN or infinity.

    References:
        G. H. Golub, R. Underwood (1977), "The block Lanczos method"; B. N. Parlett (1998), "The
        symmetric eigenvalue problem", chapter 13; Y. Saad (2011), "Numerical methods for large
        eigenvalue problems", section 6.7.

    Example:
        >>> from lightning_hessian.linalg import DenseOperator, rademacher
        >>> operator = DenseOperator(torch.diag(torch.arange(100.0)))
        >>> generator = torch.Generator().manual_seed(0)
        >>> space = block_lanczos(
        ...     operator,
        ...     rademacher(100, 2, generator=generator),
        ...     max_dimension=40,
        ...     generator=generator,
        ...     should_stop=lambda space: float(RitzPairs.of(space).bounds[-1]) < 0.1,
        ... )
        >>> 98.9 < float(RitzPairs.of(space).values[-1]) < 99.1
        True
    """
    state = BlockSweep(operator, probes, max_dimension=max_dimension, basis=basis)
    del probes
    return _grow(state, generator, should_stop, product_error)


def sweep(
    operator: SymmetricOperator,
    width: int,
    *,
    max_dimension: int,
    generator: torch.Generator,
    should_stop: StoppingRule,
    product_error: Callable[[], float] = lambda: 0.0,
    basis: BasisKind = "full",
    make_room: Callable[[BlockSweep, KrylovSpace], None] | None = None,
) -> KrylovSpace:
    """:func:`block_lanczos` from random signs, on which every measurement is built."""
    # a full basis ends it, unless `make_room` cuts the basis back so that it can go on
    signs = signs_for(operator, width, generator)
    state = BlockSweep(operator, signs, max_dimension=max_dimension, basis=basis)
    del signs
    return _grow(state, generator, should_stop, product_error, make_room)


def _grow(
    state: BlockSweep,
    generator: torch.Generator,
    should_stop: StoppingRule,
    product_error: Callable[[], float],
    make_room: Callable[[BlockSweep, KrylovSpace], None] | None = None,
) -> KrylovSpace:
    while True:
        state.step(generator)
        space = _space_of(state, product_error())
        if space.is_whole or should_stop(space):
            return space
        if not state.has_room:
            if make_room is None:
                return space
            make_room(state, space)


def _space_of(sweep: BlockSweep, product_error: float) -> KrylovSpace:
    """The space that a sweep has reached, sharing its vectors."""
    dimension = len(sweep.vectors)
    raw = sweep.raw[:dimension, :dimension]
    projection = 0.5 * (raw + raw.T)
    rounding = ROUNDINGS * torch.finfo(sweep.vectors.dtype).eps * float(projection.abs().max())
    # twice: the symmetric part of the error, which is not seen, is as large as the skew part
    skew = 2 * _norm_bound(projection - raw, negligible=0.05 * rounding)
    start = sweep.start.new_zeros(dimension, sweep.start.shape[1])
    start[: len(sweep.start)] = sweep.start[:dimension]
    return KrylovSpace(
        vectors=sweep.vectors,
        projection=projection,
        outflow=sweep.outflow if dimension < sweep.vectors.size else sweep.outflow[:0],
        start=start,
        num_blocks=sweep.num_blocks,
        product_noise=skew + rounding + sweep.dropped + product_error,
        moved=sweep.moved,
    )


def _norm_bound(skew: Tensor, *, negligible: float) -> float:
    """Upper bound of a small matrix's norm, a few per cent above it unless it is negligible."""
    # The Frobenius norm where that is negligible, else ``||(S^T S)^8||_F^(1/16)`` by repeated
    # squaring, at most ``k^(1/16)`` times the norm: a tenth of the time of eigenvalues.
    largest = float(skew.abs().max())
    if largest == 0:
        return 0.0
    power = skew / largest  # else the squares of tiny entries would underflow
    frobenius = float(torch.linalg.matrix_norm(power))
    if largest * frobenius <= negligible:
        return largest * frobenius
    power = power / frobenius  # norm at most one: no power overflows
    power = power.T @ power
    logarithm = 0.0
    for _ in range(3):
        size = float(torch.linalg.matrix_norm(power))
        power = power / size
        power = power @ power
        logarithm = 2 * (logarithm + math.log(size))
    logarithm += math.log(float(torch.linalg.matrix_norm(power)))
    return largest * frobenius * math.exp(logarithm / 16)
