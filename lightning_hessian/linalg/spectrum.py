"""Both ends, trace, density and negative mass from one Krylov sweep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
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
from lightning_hessian.linalg.krylov import KrylovSpace, RitzPairs, sweep
from lightning_hessian.linalg.negative_mass import negative_mass
from lightning_hessian.linalg.operator import SymmetricOperator
from lightning_hessian.linalg.refinement import RefinedPairs, refine
from lightning_hessian.linalg.stopping import SpectrumRule, Tolerances, unmet_notes
from lightning_hessian.linalg.trace import NUM_PILOT, estimate_trace
from lightning_hessian.records import Note, Spectrum, TraceEstimate

DENSITY_RTOL = 1e-3
ENOUGH_VECTORS = 64
"""Of the sweep's basis: with less room than this another method takes its place."""
FEW_DIMENSIONS = 20_000


def default_probes_per_block(size: int) -> int:
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
    probes_per_block: int | None = None,
    generator: torch.Generator,
    on_products: Callable[[int], None] | None = None,
    product_error: Callable[[], float] = lambda: 0.0,
    basis: Literal["auto", "full", "bfloat16", "cpu"] = "auto",
    memory_limit: int | None = None,
    low_precision: SymmetricOperator | None = None,
    blocks: Sequence[Tensor] = (),
    vectors: bool = False,
) -> Spectrum:
    """Measure the spectrum of a symmetric operator.

    One block Lanczos sweep goes on until every eigenvalue asked for has its residual bound within
    tolerance, and (for the density) the distribution has come to rest. Then fresh probes estimate
    the trace on the complement of the sweep's space; where that complement has fewer dimensions
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
        rtol: Tolerance of the eigenvalues' residual bounds.
        trace_rtol: Tolerance of the trace's standard error.
        density_rtol: By how much of its range the distribution may still move over four products.
        max_hvps: Bound on the products; at least one block.
        probes_per_block: Probes in a block; :func:`default_probes_per_block` when None.
        generator: Source of all probes, on the CPU.
        on_products: Told the number of products after each block.
        product_error: Norm of what the products are off by, asked after each block; part of every
            bound, and of the negative mass's threshold.
        basis: How the sweep's vectors are kept, as for :func:`block_lanczos`; "auto" is "full".
        memory_limit: Bytes for them and the blocks in flight, on the operator's device. Where the
            sweep has no room for 64 vectors, thick restarts and a recurrence without a basis take
            its place, as ``notes`` say. None for no limit.
        low_precision: The same operator with cheaper products of fewer digits.
        blocks: Positions of parameters, each ``(m,)``, of which to estimate the diagonal block's
            trace, too; from the same products.
        vectors: Whether to give the eigenvectors.

    Returns:
        What was found and what it cost.

    Raises:
        ValueError: If nothing is asked for, or ``max_hvps`` leaves no room for a block and
            the trace's first probe.

    Example:
        >>> import torch
        >>> from lightning_hessian.linalg import DenseOperator, measure_spectrum
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
    )
    measurement = _Measurement(
        asked,
        operator,
        low_precision,
        probes_per_block=probes_per_block,
        generator=generator,
        on_products=on_products,
        product_error=product_error,
        blocks=blocks,
        vectors=vectors,
    )
    return measurement.within(memory_limit, "full" if basis == "auto" else basis)


class _Measurement:
    """One measurement: its operators, counted, its share of the products, its probes' source."""

    def __init__(
        self,
        asked: Tolerances,
        operator: SymmetricOperator,
        low_precision: SymmetricOperator | None,
        *,
        probes_per_block: int | None,
        generator: torch.Generator,
        on_products: Callable[[int], None] | None,
        product_error: Callable[[], float],
        blocks: Sequence[Tensor],
        vectors: bool,
    ) -> None:
        self._asked = asked
        self._exact = CountingOperator(operator, on_products)
        self._has_low_precision = low_precision is not None
        self._cheap = self._exact
        if low_precision is not None:
            self._cheap = CountingOperator(low_precision, on_products)
        width = probes_per_block or default_probes_per_block(operator.size)
        self._width = min(width, operator.size)
        self._generator = generator
        self._product_error = product_error
        self._blocks = blocks
        self._vectors = vectors
        self._most = asked.max_hvps - self._reserved()

    def within(self, memory_limit: int | None, basis: BasisKind) -> Spectrum:
        """Measure by a whole sweep where its basis has room, else by one in few vectors."""
        size, most = self._exact.size, self._most
        notes: tuple[Note, ...] = ()
        if memory_limit is not None and basis != "cpu":
            fitting = partial(vectors_that_fit, self._exact, memory_limit, width=self._width)
            room = fitting(kind=basis)
            if room < min(most, size, ENOUGH_VECTORS):
                return self._in_few_vectors(fitting(kind="full"))
            if room < min(most, size):
                most = room
                text = f"`memory_limit` has room for {room} vectors of the sweep."
                notes = (Note("memory-limit", text),)
        return self._by_sweep(most, basis, notes)

    def _by_sweep(self, most: int, basis: BasisKind, notes: tuple[Note, ...]) -> Spectrum:
        asked = self._asked
        rule = SpectrumRule(asked, low_precision=self._has_low_precision)
        space = sweep(
            self._cheap,
            self._width,
            max_dimension=most,
            generator=self._generator,
            should_stop=rule.watch,
            product_error=self._product_error,
            basis=basis,
        )
        found = _ends(space, asked)
        pairs: RefinedPairs | None = None
        if self._has_low_precision:
            found, pairs = self._refined(space, found)
        known = space if pairs is None else pairs.space
        if asked.trace:
            found = replace(found, trace=self._trace(known))
        if self._vectors:
            vectors = _vectors(space, found) if pairs is None else pairs.vectors
            found = replace(found, vectors=vectors)
        return replace(
            found,
            num_hvps=self._spent(),
            # a rounded basis is not quite what was multiplied
            dimension=0 if basis == "bfloat16" else known.dimension,
            notes=(*unmet_notes(found, asked), *rule.density_notes(space), *notes, *found.notes),
        )

    def _in_few_vectors(self, max_vectors: int) -> Spectrum:
        found = measure_in_few_vectors(
            self._exact,
            self._asked,
            width=self._width,
            max_vectors=max_vectors,
            generator=self._generator,
            product_error=self._product_error,
            blocks=self._blocks,
            vectors=self._vectors,
        )
        notes = (*unmet_notes(found, self._asked), *found.notes)
        if self._has_low_precision:
            text = "All products are exact, as the sweep restarts."
            notes += (Note("all-products-exact", text),)
        return replace(found, notes=notes)

    def _trace(self, space: KrylovSpace) -> TraceEstimate:
        return estimate_trace(
            self._exact,
            rtol=self._asked.trace_rtol,
            max_num_probes=self._asked.max_hvps - self._spent(),
            generator=self._generator,
            space=space,
            probes_per_block=self._width,
            blocks=self._blocks,
        )

    def _refined(self, space: KrylovSpace, found: Spectrum) -> tuple[Spectrum, RefinedPairs]:
        """The ends of a sweep of few digits by exact products, and how far they moved."""
        pairs = refine(
            self._exact,
            _vectors(space, found),
            num_largest=len(found.largest.values),
            num_smallest=len(found.smallest.values),
            rtol=self._asked.rtol,
            product_error=self._product_error(),
        )
        before = torch.cat([found.largest.values, found.smallest.values])
        after = torch.cat([pairs.largest.values, pairs.smallest.values])
        scale = RitzPairs.of(space).scale
        moved = float((after - before).abs().max()) / scale if len(after) else 0.0
        text = (
            f"The sweep's {space.dimension} products are of fewer digits. With exact ones the "
            f"eigenvalues moved by at most {moved:.1e} of the largest magnitude; the density and "
            "the negative share are the sweep's."
        )
        note = Note("low-precision-sweep", text)
        return replace(found, largest=pairs.largest, smallest=pairs.smallest, notes=(note,)), pairs

    def _reserved(self) -> int:
        """Products kept for the trace's pilot and the refinement; refuses what leaves no block."""
        asked, max_hvps = self._asked, self._asked.max_hvps
        # what a sweep of few digits has seen of all dimensions is still not exact
        has_probes = asked.trace and (self._has_low_precision or max_hvps < self._exact.size)
        refined = asked.num_eigenvalues + asked.num_smallest if self._has_low_precision else 0
        reserved = (min(NUM_PILOT, max_hvps // 2) if has_probes else 0) + refined
        if max_hvps - reserved < self._width:
            raise ValueError(
                f"`max_hvps` must leave room for a block of {self._width}, the trace's probes and "
                f"the refinement of {refined} eigenvalues, got {max_hvps}. Give at least "
                f"{2 * (self._width + refined)}."
            )
        return reserved

    def _spent(self) -> int:
        cheap = self._cheap.num_products if self._has_low_precision else 0
        return self._exact.num_products + cheap


def _ends(space: KrylovSpace, asked: Tolerances) -> Spectrum:
    """What the sweep tells by itself."""
    ritz = RitzPairs.of(space)
    density = spectral_density(space, ritz) if asked.density else None
    return Spectrum(
        largest=largest_eigenvalues(ritz, asked.num_eigenvalues, rtol=asked.rtol),
        smallest=smallest_eigenvalues(ritz, asked.num_smallest, rtol=asked.rtol),
        trace=None,
        density=density,
        negative_mass=negative_mass(space, ritz, density) if density else None,
        num_hvps=0,
        notes=(),
    )


def _vectors(space: KrylovSpace, found: Spectrum) -> Tensor:
    """Ritz vectors of the largest, descending, then of the smallest, ascending; each once."""
    _, coordinates = torch.linalg.eigh(space.projection)
    order = end_order(
        space.dimension,
        num_largest=len(found.largest.values),
        num_smallest=len(found.smallest.values),
    )
    return space.combine(coordinates[:, order])
