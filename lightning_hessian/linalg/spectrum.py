"""Both ends, trace, density and negative mass from one Krylov sweep."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from lightning_hessian.linalg.basis_kinds import BasisKind
from lightning_hessian.linalg.counting_operator import CountingOperator
from lightning_hessian.linalg.density import spectral_density
from lightning_hessian.linalg.eigenvalues import (
    end_order,
    largest_eigenvalues,
    smallest_eigenvalues,
)
from lightning_hessian.linalg.few_vectors import measure_in_few_vectors, vectors_that_fit
from lightning_hessian.linalg.krylov import KrylovSpace, RitzPairs, block_lanczos
from lightning_hessian.linalg.negative_mass import negative_mass
from lightning_hessian.linalg.operator import SymmetricOperator
from lightning_hessian.linalg.probes import rademacher
from lightning_hessian.linalg.refinement import RefinedPairs, refine
from lightning_hessian.linalg.stopping import Goal, Wanted
from lightning_hessian.linalg.trace import NUM_PILOT, estimate_trace
from lightning_hessian.records import Spectrum

DENSITY_RTOL = 1e-3
ENOUGH_VECTORS = 64
"""Of the sweep's basis: with less room than this another method takes its place."""
FEW_DIMENSIONS = 20_000


def default_block_size(size: int) -> int:
    """Probes in a block: as many as the density's own error calls for.

    One probe leaves an error of about ``sqrt(2 / n)`` in the share of eigenvalues anywhere, which
    four reduce where it is not negligible; two find an eigenvalue that occurs twice. Narrow blocks
    reach the ends of the spectrum with fewer products.

    Args:
        size: Number of dimensions ``n``.

    Returns:
        4 below 20,000 dimensions, 2 from there on.
    """
    return min(4 if size < FEW_DIMENSIONS else 2, size)


def measure_spectrum(
    operator: SymmetricOperator,
    *,
    num_eigenvalues: int = 5,
    num_smallest: int = 1,
    trace: bool = True,
    density: bool = True,
    rtol: float = 1e-2,
    trace_rtol: float = 0.05,
    density_rtol: float = DENSITY_RTOL,
    max_hvps: int = 200,
    block_size: int | None = None,
    generator: torch.Generator,
    on_products: Callable[[int], None] | None = None,
    product_error: Callable[[], float] = lambda: 0.0,
    basis: Literal["auto", "full", "bfloat16", "cpu"] = "auto",
    memory_limit: int | None = None,
    rough: SymmetricOperator | None = None,
    blocks: Sequence[Tensor] = (),
    vectors: bool = False,
) -> Spectrum:
    """Measure the spectrum of a symmetric operator.

    One block Lanczos sweep goes on until every eigenvalue asked for has its residual bound within
    tolerance, and (for the density) the distribution has come to rest. Then fresh probes estimate
    the trace on the complement of the sweep's space; where that complement has fewer dimensions
    than the trace's pilot has probes, the sweep takes them in instead and everything is exact. What
    was not reached within ``max_hvps`` is said in ``notes``.

    With a ``rough`` operator the sweep is made with that. The eigenvalues are then refined, and the
    trace is estimated, with products of the exact one; the density is the rough one's.

    Args:
        operator: Symmetric.
        num_eigenvalues: Largest eigenvalues wanted; at most ``n`` are given.
        num_smallest: Smallest eigenvalues wanted.
        trace: Whether to estimate the trace.
        density: Whether to make the density and the negative mass.
        rtol: Tolerance of the eigenvalues' residual bounds.
        trace_rtol: Tolerance of the trace's standard error.
        density_rtol: By how much of its range the distribution may still move over four products.
        max_hvps: Bound on the products; at least one block.
        block_size: Probes in a block; :func:`default_block_size` when None.
        generator: Source of all probes, on the CPU.
        on_products: Told the number of products after each block.
        product_error: Norm of what the products are off by, asked after each block; part of every
            bound, and of the negative mass's threshold.
        basis: How the sweep's vectors are kept, as for :func:`block_lanczos`; "auto" is "full".
        memory_limit: Bytes for them and the blocks in flight, on the operator's device. Where the
            sweep has no room for 64 vectors, thick restarts and a recurrence without a basis take
            its place, as ``notes`` say. None for no limit.
        rough: The same operator with cheaper products of fewer digits.
        blocks: Positions of parameters, each ``(m,)``, of which to estimate the diagonal block's
            trace, too; from the same products.
        vectors: Whether to give the eigenvectors.

    Returns:
        What was found and what it cost.

    Raises:
        ValueError: If nothing is asked for, or ``max_hvps`` leaves no room for a block and
            the trace's first probe.
    """
    wanted = Wanted(
        num_eigenvalues=num_eigenvalues,
        num_smallest=num_smallest,
        trace=trace,
        density=density,
        rtol=rtol,
        trace_rtol=trace_rtol,
        density_rtol=density_rtol,
        max_hvps=max_hvps,
    )
    counted = CountingOperator(operator, on_products)
    cheap = counted if rough is None else CountingOperator(rough, on_products)

    def spent() -> int:
        return counted.num_products + (cheap.num_products if rough is not None else 0)

    width = min(block_size or default_block_size(operator.size), operator.size)
    # what a rough sweep has seen of all dimensions is still not exact
    has_probes = trace and (rough is not None or max_hvps < operator.size)
    reserved = min(NUM_PILOT, max_hvps // 2) if has_probes else 0
    refined = num_eigenvalues + num_smallest if rough is not None else 0
    reserved += refined
    if max_hvps - reserved < width:
        raise ValueError(
            f"`max_hvps` must leave room for a block of {width}, the trace's probes and the "
            f"refinement of {refined} eigenvalues, got {max_hvps}. Give at least "
            f"{2 * (width + refined)}."
        )
    most = max_hvps - reserved
    notes: tuple[str, ...] = ()
    kind: BasisKind = "full" if basis == "auto" else basis
    if memory_limit is not None and kind != "cpu":
        room = vectors_that_fit(operator, memory_limit, width=width, kind=kind)
        if room < min(most, operator.size, ENOUGH_VECTORS):
            found = measure_in_few_vectors(
                counted,
                num_eigenvalues=num_eigenvalues,
                num_smallest=num_smallest,
                trace=trace,
                density=density,
                rtol=rtol,
                trace_rtol=trace_rtol,
                max_hvps=max_hvps,
                width=width,
                max_vectors=vectors_that_fit(operator, memory_limit, width=width, kind="full"),
                generator=generator,
                product_error=product_error,
                blocks=blocks,
                vectors=vectors,
            )
            if rough is not None:
                notes = ("All products are exact, as the sweep restarts.",)
            return dataclasses.replace(found, notes=(*_notes(found, wanted), *found.notes, *notes))
        if room < min(most, operator.size):
            most = room
            notes = (f"`memory_limit` has room for {room} vectors of the sweep.",)
    goal = Goal(wanted, is_rough=rough is not None)
    space = block_lanczos(
        cheap,
        rademacher(
            operator.size, width, generator=generator, device=operator.device, dtype=operator.dtype
        ),
        max_dimension=most,
        generator=generator,
        should_stop=goal.is_reached,
        product_error=product_error,
        basis=kind,
    )
    found, pairs = _ends(space, counted, wanted, product_error, is_rough=rough is not None)
    if trace:
        found = dataclasses.replace(
            found,
            trace=estimate_trace(
                counted,
                rtol=trace_rtol,
                max_num_probes=max_hvps - spent(),
                generator=generator,
                space=space if pairs is None else pairs.space,
                block_size=width,
                blocks=blocks,
            ),
        )
    if vectors:
        own = _vectors(space, found) if pairs is None else pairs.vectors
        found = dataclasses.replace(found, vectors=own)
    return dataclasses.replace(
        found,
        num_hvps=spent(),
        dimension=0 if kind == "bfloat16" else (space if pairs is None else pairs.space).dimension,
        notes=(*_notes(found, wanted), *goal.density_notes(space), *notes, *found.notes),
    )


def _ends(
    space: KrylovSpace,
    exact: SymmetricOperator,
    wanted: Wanted,
    product_error: Callable[[], float],
    *,
    is_rough: bool,
) -> tuple[Spectrum, RefinedPairs | None]:
    """What the sweep tells by itself, its eigenvalues refined if it was a rough one."""
    ritz = RitzPairs.of(space)
    density = spectral_density(space, ritz) if wanted.density else None
    found = Spectrum(
        largest=largest_eigenvalues(ritz, wanted.num_eigenvalues, rtol=wanted.rtol),
        smallest=smallest_eigenvalues(ritz, wanted.num_smallest, rtol=wanted.rtol),
        trace=None,
        density=density,
        negative_mass=negative_mass(space, ritz, density) if density else None,
        num_hvps=0,
        notes=(),
    )
    if not is_rough:
        return found, None
    num_largest, num_smallest = len(found.largest.values), len(found.smallest.values)
    pairs = refine(
        exact,
        _vectors(space, found),
        num_largest=num_largest,
        num_smallest=num_smallest,
        rtol=wanted.rtol,
        product_error=product_error(),
    )
    before = torch.cat([found.largest.values, found.smallest.values])
    after = torch.cat([pairs.largest.values, pairs.smallest.values])
    moved = float((after - before).abs().max()) / ritz.scale if len(after) else 0.0
    note = (
        f"The sweep's {space.dimension} products are of fewer digits. With exact ones the "
        f"eigenvalues moved by at most {moved:.1e} of the largest magnitude; the density and the "
        "negative share are the sweep's."
    )
    return dataclasses.replace(
        found, largest=pairs.largest, smallest=pairs.smallest, notes=(note,)
    ), pairs


def _vectors(space: KrylovSpace, found: Spectrum) -> Tensor:
    """Ritz vectors of the largest, descending, then of the smallest, ascending; each once."""
    _, coordinates = torch.linalg.eigh(space.projection)
    order = end_order(
        space.dimension,
        num_largest=len(found.largest.values),
        num_smallest=len(found.smallest.values),
    )
    return space.combine(coordinates[:, order])


def _notes(found: Spectrum, wanted: Wanted) -> tuple[str, ...]:
    notes = []
    for name, ends in (("largest", found.largest), ("smallest", found.smallest)):
        missed = int((~ends.converged).sum())
        if missed:
            notes.append(
                f"{missed} of the {len(ends.converged)} {name} eigenvalues did not reach "
                f"rtol={wanted.rtol:g} within max_hvps={wanted.max_hvps}: they are Ritz values "
                "with the bounds given."
            )
    if found.trace is not None and not found.trace.converged:
        notes.append(
            f"the trace did not reach trace_rtol={wanted.trace_rtol:g} within "
            f"max_hvps={wanted.max_hvps}: its interval is wider."
        )
    return tuple(notes)
