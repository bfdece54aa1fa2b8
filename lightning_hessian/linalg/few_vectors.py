"""The spectrum within a memory limit that has no room for the whole Krylov basis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
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
from lightning_hessian.linalg.stopping import Tolerances
from lightning_hessian.linalg.thick_restart import ExtremePairs, extreme_eigenpairs
from lightning_hessian.linalg.trace import NUM_PILOT, estimate_trace
from lightning_hessian.records import Note, Spectrum

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
    asked: Tolerances,
    *,
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

    Returns:
        What was found; notes on what was not reached are the caller's.
    """
    reserved = _reserved(operator, asked, width, max_vectors)
    # without ends wanted, the outliers are what spoils trace and density
    pairs = extreme_eigenpairs(
        operator,
        num_largest=asked.num_eigenvalues or int(not asked.num_smallest),
        num_smallest=asked.num_smallest,
        max_vectors=max_vectors,
        rtol=asked.rtol,
        max_hvps=asked.max_hvps - reserved,
        probes_per_block=width,
        generator=generator,
        product_error=product_error,
    )
    spent, estimate = pairs.num_hvps, None
    if asked.trace:
        estimate = estimate_trace(
            operator,
            rtol=asked.trace_rtol,
            max_num_probes=(asked.max_hvps - spent) // (2 if asked.density else 1),
            generator=generator,
            space=pairs.space,
            probes_per_block=width,
            blocks=blocks,
        )
        spent += estimate.num_probes
    text = (
        f"`memory_limit` has no room for the basis of a full sweep: the ends are from "
        f"{max_vectors} vectors, restarted {pairs.num_restarts} times"
    )
    text += ", and the density from a recurrence without a basis." if asked.density else "."
    found = Spectrum(
        largest=pairs.largest if asked.num_eigenvalues or asked.num_smallest else pairs.smallest,
        smallest=pairs.smallest,
        trace=estimate,
        density=None,
        negative_mass=None,
        num_hvps=spent,
        notes=(Note("few-vectors", text),),
    )
    if vectors:
        found = replace(found, vectors=_vectors(pairs, found))
    if not asked.density:
        return found
    most = asked.max_hvps - spent
    return _with_density(operator, found, pairs, most, width, generator, product_error)


def _reserved(operator: SymmetricOperator, asked: Tolerances, width: int, max_vectors: int) -> int:
    """Products kept for trace and density; refuses what leaves no room for vectors or products."""
    ends = asked.num_eigenvalues + asked.num_smallest
    least = ends + 2 * width
    if max_vectors < least:
        need = (least + _in_flight(width)) * vector_bytes("full", operator)
        raise ValueError(
            f"`memory_limit` leaves room for {max(max_vectors, 0)} basis vectors, while {ends} "
            f"eigenvalues by blocks of {width} need {least}. Give at least {need} bytes, ask for "
            "fewer eigenvalues, or take smaller blocks."
        )
    pilot = NUM_PILOT * asked.trace
    reserved = pilot + (asked.max_hvps // 2 - pilot) * asked.density
    if asked.max_hvps - reserved < width or (asked.density and reserved < width + pilot):
        raise ValueError(
            f"`max_hvps` must leave room for blocks of {width}, and the trace's probes, within the "
            f"memory limit, got {asked.max_hvps}. Give at least {4 * (width + NUM_PILOT)}."
        )
    return reserved


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
        text = (
            f"the density still moved by {rest.moved:.1%} of its range (Wasserstein distance) in "
            "the last steps of the recurrence: it is coarser than its error band shows."
        )
        notes += (Note("density-not-at-rest", text),)
    return replace(
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
