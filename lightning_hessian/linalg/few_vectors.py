"""The spectrum within a memory limit that has no room for the whole Krylov basis."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from lightning_hessian.linalg.basis import FullBasis
from lightning_hessian.linalg.basis_kinds import vector_bytes
from lightning_hessian.linalg.density import BANDWIDTH_SHARE
from lightning_hessian.linalg.eigenvalues import end_order, has_converged
from lightning_hessian.linalg.lanczos_short import lanczos_recurrence
from lightning_hessian.linalg.negative_mass import negative_share
from lightning_hessian.linalg.operator import SymmetricOperator
from lightning_hessian.linalg.thick_restart import ExtremePairs, extreme_eigenpairs
from lightning_hessian.linalg.trace import NUM_PILOT, estimate_trace
from lightning_hessian.records import Spectrum

WORKING_BLOCKS = 4
"""Blocks beside the basis: products, remainder, next block, and one of the operator's."""
WORKING_VECTORS = 8
"""Vectors beside narrow blocks: two columns at a time in double precision, and their source."""
DEFLATION_RTOL = 1e-2
DENSITY_TOLERANCE = 1e-3


def vectors_that_fit(
    operator: SymmetricOperator, memory_limit: int, *, width: int, kind: Literal["full", "bfloat16"]
) -> int:
    """How many basis vectors a limit leaves room for, beside the blocks in flight.

    Args:
        operator: Tells size and type.
        memory_limit: Bytes for basis and blocks; the model and the graph of its loss come on top.
        width: Vectors in a block.
        kind: How the basis is kept.

    Returns:
        The number; negative where not even the blocks fit.
    """
    flying = _in_flight(width) * vector_bytes("full", operator)
    return (memory_limit - flying) // vector_bytes(kind, operator)


def _in_flight(width: int) -> int:
    return max(WORKING_BLOCKS * width, 2 * width + WORKING_VECTORS)


def measure_in_few_vectors(
    operator: SymmetricOperator,
    *,
    num_eigenvalues: int,
    num_smallest: int,
    trace: bool,
    density: bool,
    rtol: float,
    trace_rtol: float,
    max_hvps: int,
    width: int,
    max_vectors: int,
    generator: torch.Generator,
    product_error: Callable[[], float] = lambda: 0.0,
    blocks: Sequence[Tensor] = (),
    vectors: bool = False,
) -> Spectrum:
    """Measure the spectrum with a basis of at most ``max_vectors`` vectors.

    Thick restarts find the ends. Fresh probes on the complement of their space estimate the trace,
    as after a full sweep. The pairs that converged are then taken out exactly, and a recurrence
    without a basis gives the distribution of the rest, and the negative mass. Half of the products
    are kept for trace and density.

    Args:
        operator: Symmetric.
        num_eigenvalues: Largest eigenvalues wanted.
        num_smallest: Smallest eigenvalues wanted.
        trace: Whether to estimate the trace.
        density: Whether to make the density and the negative mass.
        rtol: Tolerance of the eigenvalues' residual bounds.
        trace_rtol: Tolerance of the trace's standard error.
        max_hvps: Bound on the products.
        width: Probes in a block.
        max_vectors: Most vectors in the basis.
        generator: Source of all probes, on the CPU.
        product_error: Norm of what the products are off by.
        blocks: Positions of parameters whose diagonal block's trace is wanted, too.
        vectors: Whether to give the eigenvectors.

    Returns:
        What was found, without notes on what was not reached.

    Raises:
        ValueError: If ``max_vectors`` or ``max_hvps`` leave no room.
    """
    least = num_eigenvalues + num_smallest + 2 * width
    if max_vectors < least:
        need = (least + _in_flight(width)) * vector_bytes("full", operator)
        raise ValueError(
            f"`memory_limit` leaves room for {max(max_vectors, 0)} basis vectors, while "
            f"{num_eigenvalues + num_smallest} eigenvalues by blocks of {width} need {least}. Give "
            f"at least {need} bytes, ask for fewer eigenvalues, or take smaller blocks."
        )
    reserved = NUM_PILOT * trace + (max_hvps // 2 - NUM_PILOT * trace) * density
    if max_hvps - reserved < width or (density and reserved < width + NUM_PILOT * trace):
        raise ValueError(
            f"`max_hvps` must leave room for blocks of {width}, and the trace's probes, within the "
            f"memory limit, got {max_hvps}. Give at least {4 * (width + NUM_PILOT)}."
        )
    # without ends wanted, the outliers are what spoils trace and density
    pairs = extreme_eigenpairs(
        operator,
        num_largest=num_eigenvalues or int(not num_smallest),
        num_smallest=num_smallest,
        max_vectors=max_vectors,
        rtol=rtol,
        max_hvps=max_hvps - reserved,
        block_size=width,
        generator=generator,
        product_error=product_error,
    )
    spent = pairs.num_hvps
    estimate = None
    if trace:
        estimate = estimate_trace(
            operator,
            rtol=trace_rtol,
            max_num_probes=(max_hvps - spent) // (2 if density else 1),
            generator=generator,
            space=pairs.space,
            block_size=width,
            blocks=blocks,
        )
        spent += estimate.num_probes
    found = Spectrum(
        largest=pairs.largest if num_eigenvalues or num_smallest else pairs.smallest,
        smallest=pairs.smallest,
        trace=estimate,
        density=None,
        negative_mass=None,
        num_hvps=spent,
        notes=(
            f"`memory_limit` has no room for the basis of a full sweep: the ends are from "
            f"{max_vectors} vectors, restarted {pairs.num_restarts} times"
            + (", and the density from a recurrence without a basis." if density else "."),
        ),
    )
    if vectors:
        found = dataclasses.replace(found, vectors=_vectors(pairs, found))
    if not density:
        return found
    return _with_density(operator, found, pairs, max_hvps - spent, width, generator, product_error)


def _with_density(
    operator: SymmetricOperator,
    found: Spectrum,
    pairs: ExtremePairs,
    max_hvps: int,
    width: int,
    generator: torch.Generator,
    product_error: Callable[[], float],
) -> Spectrum:
    """Add density and negative mass; the pairs' space is cut down to what has converged."""
    ends = float(pairs.ritz.values[0]), float(pairs.ritz.values[-1])
    values, bounds = _deflate(pairs)
    rest = lanczos_recurrence(
        operator,
        num_probes=width,
        max_steps=max_hvps // width,
        generator=generator,
        deflated=pairs.space.vectors,
        tolerance=DENSITY_TOLERANCE,
        extent=ends[1] - ends[0],
        product_error=product_error,
    )
    low, high = rest.range
    extent = max(high, ends[1]) - min(low, ends[0])
    if extent <= 2 * rest.noise:
        extent = abs(high)
    distribution = rest.density(values, bandwidth=BANDWIDTH_SHARE * (extent or 1.0))
    notes = found.notes
    if rest.moved >= DENSITY_TOLERANCE:
        notes += (
            f"the density still moved by {rest.moved:.1%} of its range (Wasserstein distance) in "
            "the last steps of the recurrence: it is coarser than its error band shows.",
        )
    return dataclasses.replace(
        found,
        density=distribution,
        negative_mass=negative_share(
            values=values,
            bounds=bounds,
            jacobi=list(zip(rest.diagonal, rest.off_diagonal, strict=True)),
            density=distribution,
            size=operator.size,
        ),
        num_hvps=found.num_hvps + rest.num_hvps,
        notes=notes,
    )


def _vectors(pairs: ExtremePairs, found: Spectrum) -> Tensor:
    order = end_order(
        len(pairs.ritz.values),
        num_largest=len(found.largest.values),
        num_smallest=len(found.smallest.values),
    )
    return pairs.space.combine(pairs.ritz.vectors[:, order])


def _deflate(pairs: ExtremePairs) -> tuple[Tensor, Tensor]:
    """Cut the pairs' basis down to the converged ones, in place.

    Returns:
        Their eigenvalues and bounds.
    """
    done = has_converged(pairs.ritz, rtol=DEFLATION_RTOL)
    vectors = pairs.space.vectors
    assert isinstance(vectors, FullBasis)
    vectors.rotate(pairs.ritz.vectors[:, done])
    return pairs.ritz.values[done], pairs.ritz.bounds[done]
