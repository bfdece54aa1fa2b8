"""Both ends, trace, density and negative mass from one Krylov sweep."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from lightning_hessian.estimators.basis_kinds import BasisKind
from lightning_hessian.estimators.density import quadrature_weights, spectral_density
from lightning_hessian.estimators.distance import wasserstein_distance
from lightning_hessian.estimators.eigenvalues import largest_eigenvalues, smallest_eigenvalues
from lightning_hessian.estimators.krylov import KrylovSpace, RitzPairs, block_lanczos
from lightning_hessian.estimators.low_memory import measure_in_few_vectors, vectors_that_fit
from lightning_hessian.estimators.negative_mass import negative_mass
from lightning_hessian.estimators.trace import NUM_PILOT, estimate_trace
from lightning_hessian.probes import rademacher
from lightning_hessian.results import Spectrum, TraceEstimate
from lightning_hessian.types import SymmetricOperator

DENSITY_TOLERANCE = 1e-3


def measure_spectrum(
    operator: SymmetricOperator,
    *,
    num_eigenvalues: int = 5,
    num_smallest: int = 1,
    trace: bool = True,
    density: bool = True,
    rtol: float = 1e-2,
    trace_rtol: float = 0.05,
    max_hvps: int = 200,
    block_size: int = 4,
    generator: torch.Generator,
    on_products: Callable[[int], None] | None = None,
    product_error: Callable[[], float] = lambda: 0.0,
    basis: Literal["auto", "full", "bfloat16", "cpu"] = "auto",
    memory_limit: int | None = None,
) -> Spectrum:
    """Measure the spectrum of a symmetric operator.

    One block Lanczos sweep goes on until every eigenvalue asked for has its residual bound within
    tolerance, and (for the density) two more blocks have moved the distribution by less than a
    thousandth of the range in Wasserstein distance. Then fresh probes estimate the trace on the
    complement of the sweep's space; where that complement has fewer dimensions than the trace's
    pilot has probes, the sweep takes them in instead and everything is exact. What was not reached
    within ``max_hvps`` is said in ``notes``.

    Args:
        operator: Symmetric.
        num_eigenvalues: Largest eigenvalues wanted; at most ``n`` are given.
        num_smallest: Smallest eigenvalues wanted.
        trace: Whether to estimate the trace.
        density: Whether to make the density and the negative mass.
        rtol: Tolerance of the eigenvalues' residual bounds.
        trace_rtol: Tolerance of the trace's standard error.
        max_hvps: Bound on the products; at least one block.
        block_size: Probes in a block.
        generator: Source of all probes, on the CPU.
        on_products: Told the number of products after each block.
        product_error: Norm of what the products are off by, asked after each block; part of every
            bound, and of the negative mass's threshold.
        basis: How the sweep's vectors are kept, as for :func:`block_lanczos`; "auto" is "full".
        memory_limit: Bytes for them and the blocks in flight, on the operator's device. Where the
            sweep's basis does not fit, thick restarts and a recurrence without a basis take its
            place, as ``notes`` say. None for no limit.

    Returns:
        What was found and what it cost.

    Raises:
        ValueError: If nothing is asked for, or ``max_hvps`` leaves no room for a block and
            the trace's first probe.
    """
    if not (num_eigenvalues or num_smallest or trace or density):
        raise ValueError(
            "nothing to measure: `num_eigenvalues` and `num_smallest` are 0, `trace` and `density` "
            "are False. Ask for at least one."
        )
    counted = _Counted(operator, on_products)
    width = min(block_size, operator.size)
    reserved = min(NUM_PILOT, max_hvps // 2) if trace and max_hvps < operator.size else 0
    if max_hvps - reserved < width:
        raise ValueError(
            f"`max_hvps` must leave room for a block of {width} and the trace's probes, got "
            f"{max_hvps}. Give at least {2 * width}."
        )
    kind: BasisKind = "full" if basis == "auto" else basis
    if memory_limit is not None and kind != "cpu":
        room = vectors_that_fit(operator, memory_limit, width=width, kind=kind)
        if room < min(max_hvps - reserved, operator.size):
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
            )
            ends = found.largest.converged, found.smallest.converged
            missed = _notes(*ends, found.trace, rtol, trace_rtol, max_hvps)
            return dataclasses.replace(found, notes=(*missed, *found.notes))
    goal = _Goal(num_eigenvalues, num_smallest, trace, density, rtol)
    space = block_lanczos(
        counted,
        rademacher(
            operator.size, width, generator=generator, device=operator.device, dtype=operator.dtype
        ),
        max_dimension=max_hvps - reserved,
        generator=generator,
        should_stop=goal.is_reached,
        product_error=product_error,
        basis=kind,
    )
    ritz = RitzPairs.of(space)
    largest = largest_eigenvalues(ritz, num_eigenvalues, rtol=rtol)
    smallest = smallest_eigenvalues(ritz, num_smallest, rtol=rtol)
    estimate = None
    if trace:
        estimate = estimate_trace(
            counted,
            rtol=trace_rtol,
            max_num_probes=max_hvps - space.dimension,
            generator=generator,
            space=space,
            block_size=block_size,
        )
    distribution = spectral_density(space, ritz) if density else None
    return Spectrum(
        largest=largest,
        smallest=smallest,
        trace=estimate,
        density=distribution,
        negative_mass=negative_mass(space, ritz, distribution) if distribution else None,
        num_hvps=counted.num_products,
        notes=(
            *_notes(largest.converged, smallest.converged, estimate, rtol, trace_rtol, max_hvps),
            *goal.density_notes(space, max_hvps),
        ),
    )


class _Counted:
    """An operator that counts its products and reports them."""

    def __init__(
        self, operator: SymmetricOperator, on_products: Callable[[int], None] | None
    ) -> None:
        self._operator = operator
        self._on_products = on_products
        self.num_products = 0

    @property
    def size(self) -> int:
        return self._operator.size

    @property
    def device(self) -> torch.device:
        return self._operator.device

    @property
    def dtype(self) -> torch.dtype:
        return self._operator.dtype

    def matmat(self, vectors: Tensor) -> Tensor:
        products = self._operator.matmat(vectors)
        self.num_products += vectors.shape[1]
        if self._on_products is not None:
            self._on_products(vectors.shape[1])
        return products


class _Goal:
    """When a sweep has found what was asked for."""

    def __init__(
        self, num_eigenvalues: int, num_smallest: int, trace: bool, density: bool, rtol: float
    ) -> None:
        self._num_eigenvalues = num_eigenvalues
        self._num_smallest = num_smallest
        self._trace = trace
        self._density = density
        self._rtol = rtol
        self._last: tuple[Tensor, Tensor] | None = None
        self._quiet_steps = 0
        self._moved = 1.0

    def is_reached(self, space: KrylovSpace) -> bool:
        ritz = RitzPairs.of(space)
        self._watch_density(space, ritz)
        is_quiet = self._quiet_steps >= 2 or not self._density
        return is_quiet and self._ends_have_converged(ritz) and self._may_probe(space)

    def density_notes(self, space: KrylovSpace, max_hvps: int) -> tuple[str, ...]:
        if not self._density or self._quiet_steps >= 2 or space.is_whole:
            return ()
        return (
            f"the density still moved by {self._moved:.1%} of its range (Wasserstein distance) in "
            f"the last block within max_hvps={max_hvps}: it is coarser than its error band shows.",
        )

    def _may_probe(self, space: KrylovSpace) -> bool:
        # after fewer products than two pilots cost, one outlier may hold most of the complement's
        # weight, and an interval from 8 values so skewed covers the truth in 90 % of cases only
        rest = space.size - space.dimension
        return not self._trace or (space.dimension >= 2 * NUM_PILOT and rest > NUM_PILOT)

    def _ends_have_converged(self, ritz: RitzPairs) -> bool:
        if len(ritz.values) < self._num_eigenvalues + self._num_smallest:
            return False
        largest = largest_eigenvalues(ritz, self._num_eigenvalues, rtol=self._rtol)
        smallest = smallest_eigenvalues(ritz, self._num_smallest, rtol=self._rtol)
        return bool(largest.converged.all()) and bool(smallest.converged.all())

    def _watch_density(self, space: KrylovSpace, ritz: RitzPairs) -> None:
        if not self._density:
            return
        # the bare quadrature: locking an eigenvalue moves mass without any gain in resolution
        now = ritz.values, quadrature_weights(space, ritz).mean(dim=1)
        if self._last is not None:
            extent = float(ritz.values[-1] - ritz.values[0])
            (nodes, weights), last = now, self._last
            moved = wasserstein_distance(*last, nodes, weights)
            self._moved = moved / extent if extent > 0 else 0.0
            # a multiple of the identity has a range of rounding only
            is_quiet = moved <= DENSITY_TOLERANCE * extent + space.noise
            self._quiet_steps = self._quiet_steps + 1 if is_quiet else 0
        self._last = now


def _notes(
    largest: Tensor,
    smallest: Tensor,
    trace: TraceEstimate | None,
    rtol: float,
    trace_rtol: float,
    max_hvps: int,
) -> tuple[str, ...]:
    notes = []
    for name, converged in (("largest", largest), ("smallest", smallest)):
        missed = int((~converged).sum())
        if missed:
            notes.append(
                f"{missed} of the {len(converged)} {name} eigenvalues did not reach rtol={rtol:g} "
                f"within max_hvps={max_hvps}: they are Ritz values with the bounds given."
            )
    if trace is not None and not trace.converged:
        notes.append(
            f"the trace did not reach trace_rtol={trace_rtol:g} within max_hvps={max_hvps}: its "
            "interval is wider."
        )
    return tuple(notes)
