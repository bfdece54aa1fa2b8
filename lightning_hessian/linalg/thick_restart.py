"""Both ends of a spectrum within a fixed number of vectors: block Lanczos with thick restarts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lightning_hessian.linalg.block_sweep import BlockSweep
from lightning_hessian.linalg.counting_operator import CountingOperator
from lightning_hessian.linalg.eigenvalues import (
    ends_have_converged,
    largest_eigenvalues,
    smallest_eigenvalues,
)
from lightning_hessian.linalg.krylov import KrylovSpace, RitzPairs, sweep
from lightning_hessian.linalg.operator import SymmetricOperator
from lightning_hessian.records import Eigenvalues


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ExtremePairs:
    """Both ends of a spectrum, and the space that they were found in.

    Attributes:
        space: At most ``max_vectors`` vectors; ``A Q = Q T + F`` holds as for a sweep without
            restarts, but its ``start`` is not that of any probe.
        ritz: The pairs of the space.
        largest: Descending.
        smallest: Ascending.
        num_hvps: Products spent.
        num_restarts: How often the basis was cut back.
    """

    space: KrylovSpace
    ritz: RitzPairs
    largest: Eigenvalues
    smallest: Eigenvalues
    num_hvps: int
    num_restarts: int


def extreme_eigenpairs(
    operator: SymmetricOperator,
    *,
    num_largest: int,
    num_smallest: int,
    max_vectors: int,
    rtol: float = 1e-2,
    max_hvps: int = 200,
    probes_per_block: int = 4,
    generator: torch.Generator,
    product_error: Callable[[], float] = lambda: 0.0,
    basis: Literal["full", "cpu"] = "full",
) -> ExtremePairs:
    """Find both ends of the spectrum with a basis of at most ``max_vectors`` vectors.

    A full basis is cut back to the Ritz vectors nearest to the ends wanted, with half of the room
    that is left beyond those, and grows again. The space stays a Krylov space of its own starting
    block, so that nothing found is lost: converged pairs stay in the basis (locked, softly), and
    every new block is orthogonal to them. Bounds are residual norms as in a sweep without restarts.
    The number of products is that of the full sweep as long as it fits, and grows slowly with the
    number of restarts.

    Costs one product for each vector ever appended; memory is the basis and about four blocks.

    Args:
        operator: Symmetric.
        num_largest: Largest eigenvalues wanted.
        num_smallest: Smallest eigenvalues wanted.
        max_vectors: Most vectors in the basis.
        rtol: Tolerance of the residual bounds, as for :func:`largest_eigenvalues`.
        max_hvps: Bound on the products; at least one block.
        probes_per_block: Probes in a block.
        generator: Source of the probes, on the CPU.
        product_error: Norm of what the products are off by, asked after each block; part of every
            bound.
        basis: "full" on the operator's device, "cpu" in the host's memory.

    Returns:
        What was found; what was not reached within ``max_hvps`` is marked, not refused.

    Raises:
        ValueError: If nothing is wanted, or ``max_vectors`` has no room for the pairs and two
            blocks, or ``max_hvps`` none for a block.

    References:
        K. Wu, H. Simon (2000), "Thick-restart Lanczos method for large symmetric eigenvalue
        problems", SIAM J. Matrix Anal. Appl. 22, 602-616; C. C. Paige (1971) for the bounds of the
        products' errors.

    Example:
        >>> from lightning_hessian.linalg import DenseOperator
        >>> operator = DenseOperator(torch.diag(torch.linspace(-2, 3, 300)))
        >>> pairs = extreme_eigenpairs(
        ...     operator, num_largest=1, num_smallest=1, max_vectors=20, generator=torch.Generator()
        ... )
        >>> len(pairs.ritz.values) <= 20 < pairs.num_hvps
        True
        >>> abs(float(pairs.smallest.values) + 2) <= float(pairs.smallest.residual_bounds)
        True
    """
    width = min(probes_per_block, operator.size)
    _check_room(operator.size, width, num_largest, num_smallest, max_vectors, max_hvps)
    counted = CountingOperator(operator)
    cuts = 0

    def should_stop(space: KrylovSpace) -> bool:
        done = ends_have_converged(
            RitzPairs.of(space), num_largest=num_largest, num_smallest=num_smallest, rtol=rtol
        )
        return done or counted.num_products + width > max_hvps

    def cut_back(state: BlockSweep, space: KrylovSpace) -> None:
        nonlocal cuts
        cuts += 1
        ritz = RitzPairs.of(space)
        kept = _kept(ritz, num_largest, num_smallest, len(state.raw) - width)
        state.restart(ritz.values[kept], ritz.vectors[:, kept])

    space = sweep(
        counted,
        width,
        max_dimension=max_vectors,
        generator=generator,
        should_stop=should_stop,
        product_error=product_error,
        basis=basis,
        make_room=cut_back,
    )
    ritz = RitzPairs.of(space)
    return ExtremePairs(
        space=space,
        ritz=ritz,
        largest=largest_eigenvalues(ritz, num_largest, rtol=rtol),
        smallest=smallest_eigenvalues(ritz, num_smallest, rtol=rtol),
        num_hvps=counted.num_products,
        num_restarts=cuts,
    )


def _check_room(
    size: int, width: int, num_largest: int, num_smallest: int, max_vectors: int, max_hvps: int
) -> None:
    wanted = num_largest + num_smallest
    least = min(wanted + 2 * width, size)
    if not (num_largest >= 0 <= num_smallest and wanted):
        raise ValueError(
            "`num_largest` and `num_smallest` must not be negative or both 0, got "
            f"{num_largest} and {num_smallest}."
        )
    if max_vectors < least:
        raise ValueError(
            f"`max_vectors` must be at least {least} for {wanted} pairs and two blocks of {width}, "
            f"got {max_vectors}. Twice as many need far fewer products."
        )
    if max_hvps < width:
        raise ValueError(
            f"`max_hvps` must be at least the block's {width} products, got {max_hvps}. Give some "
            f"{10 * (wanted + width)}."
        )


def _kept(ritz: RitzPairs, num_largest: int, num_smallest: int, room: int) -> Tensor:
    """Which Ritz pairs go on: those wanted and, in proportion, their neighbours."""
    count = len(ritz.values)
    wanted = min(num_largest + num_smallest, room)
    spare = (min(room, count) - wanted) // 2
    from_top = min(num_largest + spare * num_largest // (num_largest + num_smallest), count)
    from_bottom = min(wanted + spare - from_top, count - from_top)
    kept = torch.zeros(count, dtype=torch.bool)
    kept[:from_bottom] = True
    kept[count - from_top :] = True
    return kept
