"""The spectrum within a memory limit that has no room for the whole Krylov basis."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from lightning_hessian.linalg.basis import FullBasis
from lightning_hessian.linalg.density import BANDWIDTH_SHARE
from lightning_hessian.linalg.eigenvalues import are_known, end_vectors
from lightning_hessian.linalg.lanczos_short import lanczos_recurrence
from lightning_hessian.linalg.negative_mass import negative_share
from lightning_hessian.linalg.stopping import unmet_notes
from lightning_hessian.linalg.task import Task
from lightning_hessian.linalg.thick_restart import ExtremePairs, extreme_eigenpairs
from lightning_hessian.linalg.vector_room import narrowed, reserved_products
from lightning_hessian.records import Note, Spectrum

DEFLATION_RTOL = 1e-2
DENSITY_TOLERANCE = 1e-3


def measure_in_few_vectors(task: Task, memory_limit: int) -> Spectrum:
    """Measure with a basis of as many vectors as a limit in bytes has room for."""
    # Thick restarts find the ends. Fresh probes on the complement of their space estimate the
    # trace, as after a full sweep. The pairs that converged are then taken out exactly, and a
    # recurrence without a basis gives the distribution of the rest, and the negative mass. Half of
    # the products are kept for trace and density.
    task, max_vectors, notes = narrowed(task, memory_limit)
    asked = task.asked
    pairs = extreme_eigenpairs(
        task.operator,
        # without ends wanted, the outliers are what spoils trace and density
        num_largest=asked.num_eigenvalues or int(not asked.num_smallest),
        num_smallest=asked.num_smallest,
        max_vectors=max_vectors,
        rtol=asked.rtol,
        max_hvps=asked.max_hvps - reserved_products(asked),
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
        notes=(Note("few-vectors", text), *notes),
    )
    if task.vectors:
        ends = len(found.largest.values), len(found.smallest.values)
        own = end_vectors(pairs.space, pairs.ritz, num_largest=ends[0], num_smallest=ends[1])
        found = replace(found, vectors=own)
    found = replace(found, notes=(*unmet_notes(found, asked, pairs.space), *found.notes))
    return _with_density(task, found, pairs) if asked.density else found


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
