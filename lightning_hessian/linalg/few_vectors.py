"""The spectrum within a memory limit that has no room for the whole Krylov basis."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from torch import Tensor

from lightning_hessian.linalg.basis import FullBasis, vector_bytes
from lightning_hessian.linalg.density import BANDWIDTH_SHARE
from lightning_hessian.linalg.eigenvalues import are_known, end_vectors
from lightning_hessian.linalg.lanczos_short import lanczos_recurrence
from lightning_hessian.linalg.negative_mass import negative_share
from lightning_hessian.linalg.operator import SymmetricOperator
from lightning_hessian.linalg.stopping import unmet_notes
from lightning_hessian.linalg.task import Task
from lightning_hessian.linalg.thick_restart import ExtremePairs, extreme_eigenpairs
from lightning_hessian.linalg.trace import NUM_PILOT
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
    """How many basis vectors a limit in bytes leaves room for, beside the blocks in flight."""
    # negative where not even those fit; the model and the graph of its loss come on top
    flying = _in_flight(width) * vector_bytes("full", operator)
    return (memory_limit - flying) // vector_bytes(kind, operator)


def _in_flight(width: int) -> int:
    return max(WORKING_BLOCKS * width, 2 * width + WORKING_VECTORS)


def measure_in_few_vectors(task: Task, max_vectors: int) -> Spectrum:
    """Measure with a basis of at most ``max_vectors``."""
    # Thick restarts find the ends. Fresh probes on the complement of their space estimate the
    # trace, as after a full sweep. The pairs that converged are then taken out exactly, and a
    # recurrence without a basis gives the distribution of the rest, and the negative mass. Half of
    # the products are kept for trace and density.
    asked = task.asked
    reserved = _reserved(task, max_vectors)
    pairs = extreme_eigenpairs(
        task.operator,
        # without ends wanted, the outliers are what spoils trace and density
        num_largest=asked.num_eigenvalues or int(not asked.num_smallest),
        num_smallest=asked.num_smallest,
        max_vectors=max_vectors,
        rtol=asked.rtol,
        max_hvps=asked.max_hvps - reserved,
        probes_per_block=task.width,
        generator=task.generator,
        product_error=task.product_error,
    )
    left = asked.max_hvps - pairs.num_hvps
    trace = task.trace(pairs.space, left // 2 if asked.density else left)
    text = (
        f"`memory_limit` has no room for the basis of a full sweep: the ends are from "
        f"{max_vectors} vectors, restarted {pairs.num_restarts} times"
    )
    text += ", and the density from a recurrence without a basis." if asked.density else "."
    found = Spectrum(
        largest=pairs.largest if asked.num_eigenvalues or asked.num_smallest else pairs.smallest,
        smallest=pairs.smallest,
        trace=trace,
        density=None,
        negative_mass=None,
        num_hvps=task.operator.num_products,
        notes=(Note("few-vectors", text),),
    )
    if task.vectors:
        ends = len(found.largest.values), len(found.smallest.values)
        own = end_vectors(pairs.space, pairs.ritz, num_largest=ends[0], num_smallest=ends[1])
        found = replace(found, vectors=own)
    found = replace(found, notes=(*unmet_notes(found, asked, pairs.space), *found.notes))
    return _with_density(task, found, pairs) if asked.density else found


def _reserved(task: Task, max_vectors: int) -> int:
    """Products kept for trace and density; refuses what leaves no room for vectors or products."""
    asked, width = task.asked, task.width
    ends = asked.num_eigenvalues + asked.num_smallest
    least = ends + 2 * width
    if max_vectors < least:
        need = (least + _in_flight(width)) * vector_bytes("full", task.operator)
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


def _with_density(task: Task, found: Spectrum, pairs: ExtremePairs) -> Spectrum:
    """Add density and negative mass; the pairs' space is cut down to what has converged."""
    ends = float(pairs.ritz.values[0]), float(pairs.ritz.values[-1])
    values, bounds = _deflate(pairs)
    rest = lanczos_recurrence(
        task.operator,
        num_probes=task.width,
        max_steps=(task.asked.max_hvps - task.operator.num_products) // task.width,
        generator=task.generator,
        deflated=pairs.space.vectors,
        tolerance=DENSITY_TOLERANCE,
        extent=ends[1] - ends[0],
        product_error=task.product_error,
    )
    low, high = rest.range
    extent = max(high, ends[1]) - min(low, ends[0])
    if extent <= 2 * rest.noise:
        extent = abs(high)
    density = rest.density(values, bandwidth=BANDWIDTH_SHARE * (extent or 1.0))
    notes = found.notes
    if rest.moved >= DENSITY_TOLERANCE:
        text = (
            f"the density still moved by {rest.moved:.1%} of its range (Wasserstein distance) in "
            "the last steps of the recurrence: it is coarser than its error band shows."
        )
        notes += (Note("density-not-at-rest", text),)
    jacobi = list(zip(rest.diagonal, rest.off_diagonal, strict=True))
    mass = negative_share(
        values=values, bounds=bounds, jacobi=jacobi, density=density, size=task.operator.size
    )
    return replace(
        found,
        density=density,
        negative_mass=mass,
        num_hvps=task.operator.num_products,
        notes=notes,
    )


def _deflate(pairs: ExtremePairs) -> tuple[Tensor, Tensor]:
    """Cut the pairs' basis down to the converged ones, in place; gives their values and bounds."""
    done = are_known(pairs.ritz, rtol=DEFLATION_RTOL)
    vectors = pairs.space.vectors
    assert isinstance(vectors, FullBasis)
    vectors.rotate(pairs.ritz.vectors[:, done])
    return pairs.ritz.values[done], pairs.ritz.bounds[done]
