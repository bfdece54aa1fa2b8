"""Both ends, trace, density and negative mass from one Krylov sweep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from lightning_hessian.linalg.basis import BasisKind
from lightning_hessian.linalg.counting_operator import CountingOperator
from lightning_hessian.linalg.density import spectral_density
from lightning_hessian.linalg.eigenvalues import (
    end_vectors,
    largest_eigenvalues,
    smallest_eigenvalues,
)
from lightning_hessian.linalg.few_vectors import measure_in_few_vectors
from lightning_hessian.linalg.krylov import KrylovSpace, RitzPairs, sweep
from lightning_hessian.linalg.negative_mass import negative_mass
from lightning_hessian.linalg.operator import SymmetricOperator
from lightning_hessian.linalg.refinement import RefinedPairs, refine
from lightning_hessian.linalg.stopping import SpectrumRule, Tolerances, unmet_notes
from lightning_hessian.linalg.task import Task
from lightning_hessian.linalg.trace import NUM_PILOT
from lightning_hessian.linalg.vector_room import vectors_that_fit
from lightning_hessian.records import Eigenvalues, Note, Spectrum

DENSITY_RTOL = 1e-3
FEW_PRODUCTS = 40
NEAR, MOVING = 0.1, 0.02
"""Of the range: bounds of what is near what it is called, and moves of what is no density yet."""
ENOUGH_VECTORS = 64
"""Of the sweep's basis: with less room than this another method takes its place."""
FEW_DIMENSIONS = 500


def default_probes_per_block(size: int) -> int:
    """Probes in a block: as many as the density's own error calls for."""
    # one probe leaves an error of about sqrt(2 / n) in the share of eigenvalues anywhere, which
    # four reduce where it is not negligible. Graphs being kept, a block saves nothing for each of
    # its vectors, and one probe reaches the ends of the spectrum with the fewest products
    return min(4 if size < FEW_DIMENSIONS else 1, size)


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
    probes_per_block: int | None = None,
    generator: torch.Generator,
    on_products: Callable[[int], None] | None = None,
    product_error: Callable[[], float] = lambda: 0.0,
    floor: float = 0.0,
    trace_floor: float = 0.0,
    only_reached: bool = False,
    basis: Literal["auto", "full", "bfloat16", "cpu"] = "auto",
    memory_limit: int | None = None,
    low_precision: SymmetricOperator | None = None,
    blocks: Sequence[Tensor] = (),
    vectors: bool = False,
) -> Spectrum:
    """Measure the spectrum of a symmetric operator.

    One block Lanczos sweep goes on until every eigenvalue asked for has its residual bound within
    tolerance, and (for the density) the distribution has come to rest. The trace is then read off
    the same products (:func:`trace_of_start`); where that is not within tolerance, fresh probes
    estimate it on the complement of the sweep's space. Where that complement has fewer dimensions
    than the trace's pilot has probes, the sweep takes them in instead and everything is exact. What
    was not reached within ``max_hvps`` is said in ``notes``.

    With a ``low_precision`` operator the sweep is made with that. The eigenvalues are then refined,
    and the trace is estimated, with products of the exact one; the density is the sweep's.

    Args:
        operator: Symmetric.
        num_eigenvalues: Largest eigenvalues wanted; at most ``n`` are given.
        num_smallest: Smallest eigenvalues wanted.
        trace: Whether to estimate the trace.
        density: Whether to make the density and the negative mass.
        rtol: Tolerance of the eigenvalues' residual bounds, relative to the spectrum's range.
        trace_rtol: Tolerance of the trace's standard error.
        density_rtol: By how much of its range the distribution may still move over four products.
        max_hvps: Bound on the products; at least one block.
        probes_per_block: Probes in a block; when None 1, or 4 below 500 dimensions. An eigenvalue
            that occurs more often than this is found as often as the block is wide.
        generator: Source of all probes, on the CPU.
        on_products: Told the number of products after each block.
        product_error: Norm of what the products are off by, asked after each block; part of every
            bound, and of the negative mass's threshold.
        floor: Tolerance of residual bounds that is enough in any case, in eigenvalue units.
        trace_floor: The same of the trace's standard error.
        only_reached: Leave out what is further than a tenth of the range from what it is called,
            and a density that still moves by more than 2 % of it.
        basis: How the sweep's vectors are kept, as for :func:`block_lanczos`; "auto" is "full".
        memory_limit: Bytes for them and the blocks in flight, on the operator's device. Where the
            sweep has no room for 64 vectors, thick restarts and a recurrence without a basis take
            its place, if need be by narrower blocks and of fewer eigenvalues, as ``notes`` say.
            None for no limit.
        low_precision: The same operator with cheaper products of fewer digits.
        blocks: Positions of parameters, each ``(m,)``, of which to estimate the diagonal block's
            trace, too; from the same products.
        vectors: Whether to give the eigenvectors.

    Returns:
        What was found and what it cost.

    Raises:
        ValueError: If nothing is asked for, ``max_hvps`` leaves no room for a block and the trace's
            first probe, or ``memory_limit`` none for 13 vectors.

    Example:
        >>> from lightning_hessian.linalg import DenseOperator
        >>> matrix = torch.diag(torch.linspace(-1, 3, 400, dtype=torch.float64))
        >>> generator = torch.Generator().manual_seed(0)
        >>> found = measure_spectrum(DenseOperator(matrix), generator=generator)
        >>> abs(float(found.largest.values[0]) - 3) <= float(found.largest.residual_bounds[0])
        True
    """
    asked = Tolerances(
        num_eigenvalues=num_eigenvalues,
        num_smallest=num_smallest,
        trace=trace,
        density=density,
        rtol=rtol,
        trace_rtol=trace_rtol,
        density_rtol=density_rtol,
        max_hvps=max_hvps,
        floor=floor,
        trace_floor=trace_floor,
        only_reached=only_reached,
    )
    width = probes_per_block or default_probes_per_block(operator.size)
    task = Task(
        asked=asked,
        operator=CountingOperator(operator, on_products),
        width=min(width, operator.size),
        generator=generator,
        product_error=product_error,
        blocks=blocks,
        vectors=vectors,
    )
    cheap = None if low_precision is None else CountingOperator(low_precision, on_products)
    return _measure(task, cheap, memory_limit, "full" if basis == "auto" else basis)


def _measure(
    task: Task, cheap: CountingOperator | None, memory_limit: int | None, basis: BasisKind
) -> Spectrum:
    """By a whole sweep where its basis has room, else in few vectors."""
    most = task.asked.max_hvps - _reserved(task, has_low_precision=cheap is not None)
    if memory_limit is None or basis == "cpu":
        return _by_sweep(task, cheap, most, basis)
    whole = min(most, task.operator.size)
    room = vectors_that_fit(task, memory_limit, kind=basis)
    if room >= whole:
        return _by_sweep(task, cheap, most, basis)
    if room >= min(whole, ENOUGH_VECTORS):
        text = f"`memory_limit` has room for {room} vectors of the sweep."
        return _by_sweep(task, cheap, room, basis, Note("memory-limit", text))
    found = measure_in_few_vectors(task, memory_limit)
    if cheap is None:
        return found
    note = Note("all-products-exact", "All products are exact, as the sweep restarts.")
    return replace(found, notes=(*found.notes, note))


def _reserved(task: Task, *, has_low_precision: bool) -> int:
    """Products kept for the trace's pilot and the refinement; refuses what leaves no block."""
    asked, max_hvps = task.asked, task.asked.max_hvps
    # what a sweep of few digits has seen of all dimensions is still not exact
    has_probes = asked.trace and (has_low_precision or max_hvps < task.operator.size)
    refined = asked.num_eigenvalues + asked.num_smallest if has_low_precision else 0
    # few products go into the sweep, whose own probe tells of the trace
    from_start = not has_low_precision and not task.blocks and max_hvps < FEW_PRODUCTS
    pilot = 0 if from_start or not has_probes else min(NUM_PILOT, max_hvps // 2)
    reserved = pilot + refined
    if max_hvps - reserved < task.width:
        raise ValueError(
            f"`max_hvps` must leave room for a block of {task.width}, the trace's probes and the "
            f"refinement of {refined} eigenvalues, got {max_hvps}. Give at least "
            f"{2 * (task.width + refined)}."
        )
    return reserved


def _by_sweep(
    task: Task, cheap: CountingOperator | None, most: int, basis: BasisKind, *notes: Note
) -> Spectrum:
    asked, exact = task.asked, task.operator
    rule = SpectrumRule(asked, low_precision=cheap is not None, reads_trace=not task.blocks)
    space = sweep(
        exact if cheap is None else cheap,
        task.width,
        max_dimension=most,
        generator=task.generator,
        should_stop=rule.watch,
        product_error=task.product_error,
        basis=basis,
    )
    found = _told_by(space, asked)
    pairs: RefinedPairs | None = None
    if cheap is not None:
        found, pairs = _refined(task, space, found)
    known, num_swept = (space, 0) if pairs is None else (pairs.space, space.dimension)
    left = asked.max_hvps - exact.num_products - num_swept
    found = replace(found, trace=task.trace(known, left, reads_start=pairs is None))
    if task.vectors:
        vectors = _end_vectors(space, found) if pairs is None else pairs.vectors
        found = replace(found, vectors=vectors)
    if asked.only_reached:
        found = _reached(found, rule, RitzPairs.of(space))
    return replace(
        found,
        num_hvps=exact.num_products + num_swept,
        # a rounded basis is not quite what was multiplied
        dimension=0 if basis == "bfloat16" else known.dimension,
        notes=(*unmet_notes(found, asked, known), *rule.density_notes(space), *notes, *found.notes),
    )


def _told_by(space: KrylovSpace, asked: Tolerances) -> Spectrum:
    """What the sweep tells by itself."""
    ritz = RitzPairs.of(space)
    density = spectral_density(space, ritz) if asked.density else None
    return Spectrum(
        largest=largest_eigenvalues(
            ritz, asked.num_eigenvalues, rtol=asked.rtol, floor=asked.floor
        ),
        smallest=smallest_eigenvalues(ritz, asked.num_smallest, rtol=asked.rtol, floor=asked.floor),
        trace=None,
        density=density,
        negative_mass=negative_mass(space, ritz, density) if density else None,
        num_hvps=0,
        notes=(),
    )


def _reached(found: Spectrum, rule: SpectrumRule, ritz: RitzPairs) -> Spectrum:
    """Without what is not near what it is called; the largest eigenvalue always stays."""
    limit = NEAR * ritz.extent

    def near(ends: Eigenvalues, least: int) -> Eigenvalues:
        far = (ends.residual_bounds > limit).nonzero()
        count = max(int(far[0]) if len(far) else len(ends.values), min(least, len(ends.values)))
        return Eigenvalues(
            values=ends.values[:count],
            residual_bounds=ends.residual_bounds[:count],
            converged=ends.converged[:count],
        )

    found = replace(found, largest=near(found.largest, 1), smallest=near(found.smallest, 0))
    return replace(found, density=None, negative_mass=None) if rule.moved > MOVING else found


def _refined(task: Task, space: KrylovSpace, found: Spectrum) -> tuple[Spectrum, RefinedPairs]:
    """The ends of a sweep of few digits by exact products, and how far they moved."""
    pairs = refine(
        task.operator,
        _end_vectors(space, found),
        num_largest=len(found.largest.values),
        num_smallest=len(found.smallest.values),
        rtol=task.asked.rtol,
        product_error=task.product_error(),
    )
    before = torch.cat([found.largest.values, found.smallest.values])
    after = torch.cat([pairs.largest.values, pairs.smallest.values])
    scale = RitzPairs.of(space).scale
    moved = float((after - before).abs().max()) / scale if len(after) and scale else 0.0
    text = (
        f"The sweep's {space.dimension} products are of fewer digits. With exact ones the "
        f"eigenvalues moved by at most {moved:.1e} of the largest magnitude; the density and the "
        "negative share are the sweep's."
    )
    note = Note("low-precision-sweep", text)
    return replace(found, largest=pairs.largest, smallest=pairs.smallest, notes=(note,)), pairs


def _end_vectors(space: KrylovSpace, found: Spectrum) -> Tensor:
    return end_vectors(
        space,
        RitzPairs.of(space),
        num_largest=len(found.largest.values),
        num_smallest=len(found.smallest.values),
    )
