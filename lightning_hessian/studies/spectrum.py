"""From a training loss to a report of its Hessian's spectrum."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from lightning_hessian.engines import pyhessian_spectrum
from lightning_hessian.linalg import align, measure_spectrum
from lightning_hessian.loss import Conductor, TrainingLoss
from lightning_hessian.options import Krylov, PyHessian, Solver, SpectrumOptions
from lightning_hessian.records import (
    EigenvectorOverlap,
    Note,
    SamplingError,
    Spectrum,
    SpectrumReport,
)
from lightning_hessian.studies.assembly import report_of, with_sampling
from lightning_hessian.studies.batch_sharpness import batch_sharpness, cost_along_gradients
from lightning_hessian.studies.blocks import (
    NOT_MEASURED,
    blocks_of,
    not_trained,
    with_eigenvalues,
)
from lightning_hessian.studies.draws import beside_draws
from lightning_hessian.studies.enough_samples import enough_samples
from lightning_hessian.studies.memory import Memory
from lightning_hessian.studies.quick_spectrum import LOOKED_AT, quick_spectrum
from lightning_hessian.studies.sampling_error import sampling_error
from lightning_hessian.studies.stability_margin import FEW_PRODUCTS, EdgeOfLoss
from lightning_hessian.studies.study import tell_nobody
from lightning_hessian.studies.sweep_room import sweep_memory
from lightning_hessian.studies.trace_tolerance import trace_notes
from lightning_hessian.studies.trade import (
    ALONG_GRADIENT_OF_SEVERAL,
    CHECKS,
    FAIR_PRODUCTS,
    FEWEST_SAMPLES,
    FIRST_PRODUCTS,
    LEAST_PRODUCTS,
    LEAST_SAMPLES,
    PRODUCT,
    RECOMPUTED,
    SWEEP_PRODUCTS,
    USUAL_PRODUCTS,
    Purchase,
    price,
    sample_size,
)

PYHESSIAN_HVPS = 300
FLOOR_SHARE = 0.25
"""Of the last report's sampling error: digits beyond it tell nothing of the training set."""
SCATTER = 5_000
FRESH = 10_000
EDGE = 10**10
"""Numbers of the probes' generators from here on are for each report another."""
EDGE_RTOL = 1e-2
"""Where the solver has none of its own."""
OF_STEPS = 0.5
"""Of an allowance, that batch sharpness may take: with large batches few steps cost as much."""
MANY = 40
"""Products of a report that can pay for the sampling error of every eigenvalue."""


class SpectrumStudy:
    """Measures the spectrum; remembers eigenvectors from one report to the next.

    Args:
        options: What is asked for.
        seed: Of the probes.
    """

    record: ClassVar[type[SpectrumReport]] = SpectrumReport
    fewest_samples: ClassVar[int] = LEAST_SAMPLES

    def __init__(self, options: SpectrumOptions, seed: int) -> None:
        self._options = options
        self._seed = seed
        self._earlier: Memory | None = None
        self._latest: Memory | None = None

    def sample_size(self, allowance: float) -> int:
        """As many as four products on each leave room for, and more products with large sums."""
        if isinstance(self._options.solver, PyHessian):
            return FEWEST_SAMPLES
        return sample_size(allowance)

    def least_price(self, num_samples: int, *, is_first: bool = False) -> float:
        """Of the last report's vector and one that may find another; without it, of six."""
        return self._price(num_samples, FIRST_PRODUCTS if is_first else LEAST_PRODUCTS)

    def setup_price(self, num_samples: int) -> float:
        """Of two gradients that compare groups with batches, and the checks of the products."""
        return CHECKS * num_samples

    def fair_price(self, num_samples: int) -> float:
        """Of the four products from which on a larger eigenvalue seldom hides."""
        return self._price(num_samples, FAIR_PRODUCTS)

    def usual_price(self, num_samples: int) -> float:
        """Of six, with which it is found as well as few samples call for."""
        return self._price(num_samples, USUAL_PRODUCTS)

    def _price(self, num_samples: int, products: int) -> float:
        """With the edge's own products, which plain SGD does not take, and batch sharpness."""
        solver, extra = self._options.solver, FEW_PRODUCTS if self._options.edge is True else 0
        beside = self._price_of_sharpness(num_samples)
        if not isinstance(solver, Krylov):
            return price(num_samples, PYHESSIAN_HVPS + extra, RECOMPUTED) + beside
        return price(num_samples, min(products, solver.max_hvps) + extra) + beside

    def _price_of_sharpness(self, num_samples: int) -> float:
        """Of steps over all the samples, at most; less where a step is one batch."""
        return ALONG_GRADIENT_OF_SEVERAL * num_samples if self._options.batch_sharpness else 0.0

    def describe(self, num_samples: int, allowance: float) -> str:
        """About how many products a report is made with."""
        solver = self._options.solver
        if not isinstance(solver, Krylov):
            return f"about {PYHESSIAN_HVPS} products each"
        left = allowance - self._price_of_sharpness(num_samples)
        most = Purchase.of(left, num_samples, solver.max_hvps).num_products
        return f"about {most} products each"

    def max_hvps(
        self, loss: TrainingLoss, allowance: float | None = None, *, is_trial: bool = False
    ) -> int:
        """Bound on the products of the sweep and the trace."""
        options, solver = self._options, self._solver(is_trial=is_trial)
        if isinstance(solver, Krylov):
            if allowance is None:
                return solver.max_hvps
            num_samples = loss.sample.num_samples
            return Purchase.of(allowance, num_samples, solver.max_hvps).num_products
        assert isinstance(solver, PyHessian)
        return solver.max_hvps(
            loss.size,
            num_eigenvalues=options.num_eigenvalues,
            trace=options.trace,
            density=options.density,
        )

    def state(self) -> dict[str, Any]:
        """The eigenvectors of the last report, from which the next one starts."""
        return {} if self._earlier is None else self._earlier.state()

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from the report before."""
        self._latest = self._earlier = Memory.of(state) if state else None

    def settle(self) -> None:
        """Compare from now on with the eigenvectors measured last, as their report is recorded."""
        self._earlier = self._latest

    def required_samples(self, report: SpectrumReport) -> int:
        """How many samples a report should have been on for its sampling errors."""
        solver = self._options.solver
        if not self._options.grows or not isinstance(solver, Krylov):
            return report.num_samples
        return enough_samples(report, solver.sampling_rtol)

    def measure(
        self,
        loss: TrainingLoss | Conductor,
        *,
        allowance: float | None = None,
        has_products: bool = True,  # noqa: ARG002
        on_gradient: Callable[[float], None] = tell_nobody,
        on_products: Callable[[int], None] = tell_nobody,
        is_trial: bool = False,
    ) -> SpectrumReport:
        """Measure the gradient, then what the options ask for.

        Costs one gradient and at most ``max_hvps`` products, besides those of blocks, sampling
        errors, the edge and batch sharpness. With an allowance it costs no more than that: by few
        products from the last report's vector, or by a sweep where it pays for one.

        Returns:
            See :meth:`Study.measure`.
        """
        solver = self._solver(is_trial=is_trial)
        if isinstance(solver, Krylov):
            sweep_memory(loss, solver)  # refused before anything is spent, if it is
        start = time.perf_counter()
        gradient = loss.gradient()
        gradient_seconds = time.perf_counter() - start
        on_gradient(gradient_seconds)
        edge = EdgeOfLoss.asked(loss, self._options.edge)
        if edge is not None and allowance is not None:
            allowance -= PRODUCT * edge.num_products * loss.sample.num_samples
        of_steps = None if allowance is None else OF_STEPS * allowance
        if self._options.batch_sharpness and allowance is not None:
            allowance -= cost_along_gradients(loss, allowance=of_steps)
        if isinstance(solver, Krylov) and allowance is not None:
            report = self._within(loss, solver, allowance, on_products)
        elif isinstance(solver, Krylov):
            report = self._by_krylov(loss, solver, on_products)
        else:
            assert isinstance(solver, PyHessian)
            report = self._by_pyhessian(loss, solver, on_products)
        if self._options.grows and not loss.sample.is_whole and report.sampling is None:
            report = replace(report, notes=(*report.notes, _STAYS))
        if edge is not None:
            report = self._with_edge(
                report, loss, edge, on_products, has_limit=allowance is not None
            )
        cost = price(loss.sample.num_samples, report.num_hvps)
        if self._options.batch_sharpness:
            report, spent = _with_sharpness(report, loss, of_steps, on_products)
            cost += spent
        report = replace(
            report,
            loss=gradient.loss,
            gradient_norm=float(gradient.vector.norm()),
            gradient_seconds=gradient_seconds,
            num_parameters=loss.size,
            num_samples=loss.sample.num_samples,
            cost=cost,
            data=loss.sample.description,
            loss_name=loss.name,
            unused_parameters=gradient.unused,
        )
        if not isinstance(solver, Krylov):
            return report
        notes = trace_notes(report, solver, has_allowance=allowance is not None)
        return replace(report, notes=(*report.notes, *notes))

    def _with_edge(
        self,
        report: SpectrumReport,
        loss: TrainingLoss | Conductor,
        edge: EdgeOfLoss,
        on_products: Callable[[int], None],
        *,
        has_limit: bool,
    ) -> SpectrumReport:
        """The report with the optimiser's margin, by a short sweep where that takes one."""
        notes = (*report.notes, *edge.notes)
        margin = edge.from_largest(report.largest, report.largest_interval)
        if margin is None and edge.edge is not None:
            earlier, solver = self._earlier, self._options.solver
            is_known = earlier is not None and earlier.fits(loss.parameters.names, loss.size)
            is_swept = isinstance(solver, Krylov) and not has_limit
            margin, vector = edge.measured(
                loss,
                rtol=solver.rtol if isinstance(solver, Krylov) else EDGE_RTOL,
                max_hvps=solver.max_hvps if isinstance(solver, Krylov) and is_swept else None,
                recycled=earlier.edge if earlier is not None and is_known else None,
                generator=self._generator(EDGE + (earlier.count if earlier else 0)),
                on_products=on_products,
            )
            if self._latest is not None:
                self._latest = replace(self._latest, edge=vector.cpu())
        spent = 0 if margin is None else margin.num_hvps
        return replace(report, edge=margin, num_hvps=report.num_hvps + spent, notes=notes)

    def _within(
        self,
        loss: TrainingLoss | Conductor,
        solver: Krylov,
        allowance: float,
        on_products: Callable[[int], None],
    ) -> SpectrumReport:
        """What an allowance pays for."""
        bought = Purchase.of(allowance, loss.sample.num_samples, solver.max_hvps)
        if bought.is_sweep:
            return self._by_krylov(
                loss, replace(solver, max_hvps=bought.num_products), on_products, is_bought=True
            )
        return self._by_few(loss, solver, bought.num_products, on_products)

    def _by_few(
        self,
        loss: TrainingLoss | Conductor,
        solver: Krylov,
        num_products: int,
        on_products: Callable[[int], None],
    ) -> SpectrumReport:
        """The largest eigenvalue and the trace from the last report's vector and a fresh probe."""
        options, earlier, names = self._options, self._earlier, loss.parameters.names
        num_products, looks = beside_draws(loss, LOOKED_AT, num_products, least=FAIR_PRODUCTS)
        is_known = earlier is not None and earlier.fits(names, loss.size)
        found = quick_spectrum(
            loss,
            num_products=num_products,
            looks_at_draws=looks,
            # the one that a checkpoint holds, so that a resumed fit goes on alike
            recycled=earlier.vectors[:, :1] if is_known and earlier else None,
            num_eigenvalues=options.num_eigenvalues,
            trace=options.trace,
            rtol=solver.rtol,
            trace_rtol=solver.trace_rtol,
            generator=self._generator(FRESH + (earlier.count if earlier else 0)),
            population=loss.sample.population,
            on_products=on_products,
        )
        overlap = self._remember(loss, found.vectors, found.sampling)
        quality = loss.products.quality
        return SpectrumReport(
            largest=found.largest,
            trace=with_sampling(found.trace, found.sampling),
            products=quality,
            sampling=found.sampling,
            overlap=overlap,
            num_hvps=found.num_hvps,
            graph_bytes=loss.products.graph_bytes,
            notes=(
                *found.notes,
                *quality.notes,
                *([NOT_MEASURED] if options.parameter_blocks else []),
            ),
        )

    def _remember(
        self, loss: TrainingLoss | Conductor, vectors: Tensor, sampling: SamplingError | None
    ) -> EigenvectorOverlap | None:
        """Keep the leading vectors for the next report; how far they turned since the last."""
        names, earlier = loss.parameters.names, self._earlier
        found: EigenvectorOverlap | None = None
        if earlier is not None and earlier.fits(names, loss.size):
            overlap = align(vectors, earlier.vectors)
            vectors = overlap.vectors
            found = EigenvectorOverlap(
                cosines=overlap.cosines,
                partners=overlap.partners.double(),
                subspace=overlap.subspace,
            )
        error = math.nan if sampling is None else float(sampling.eigenvalue_errors[:1].sum())
        count = 1 if earlier is None else earlier.count + 1
        self._latest = Memory(names=names, vectors=vectors.cpu(), count=count, error=error)
        return found

    def _solver(self, *, is_trial: bool) -> Solver:
        return (self._options.trial if is_trial else self._options).solver

    def _by_pyhessian(
        self,
        loss: TrainingLoss | Conductor,
        solver: PyHessian,
        on_products: Callable[[int], None],
    ) -> SpectrumReport:
        options = self._options
        spectrum = pyhessian_spectrum(
            loss,
            num_eigenvalues=options.num_eigenvalues,
            trace=options.trace,
            density=options.density,
            solver=solver,
            seed=self._seed,
            on_products=on_products,
        )
        return replace(report_of(spectrum, loss.products.quality, loss.size), engine="pyhessian")

    def _by_krylov(
        self,
        loss: TrainingLoss | Conductor,
        solver: Krylov,
        on_products: Callable[[int], None],
        *,
        is_bought: bool = False,
    ) -> SpectrumReport:
        options, patterns = self._options, self._options.parameter_blocks
        leaves_open = not loss.sample.is_whole or bool(loss.redrawn)
        is_sampled = leaves_open and loss.products.quality.method == "exact"
        parts = loss.parameters.blocks(patterns) if patterns else {}
        untrained = [name for name, positions in parts.items() if not len(positions)]
        parts = {name: positions for name, positions in parts.items() if len(positions)}
        sampled = self._num_sampled(solver, is_bought=is_bought) if is_sampled else 0
        looks = True
        if is_bought and sampled:
            left = solver.max_hvps - sampled - 1
            left, looks = beside_draws(loss, sampled + 1, left, least=SWEEP_PRODUCTS - 2)
            solver = replace(solver, max_hvps=left)
        spectrum = self._sweep(
            loss, solver, list(parts.values()), on_products, bool(sampled), is_bought
        )
        report = replace(
            report_of(spectrum, loss.products.quality, loss.size),
            graph_bytes=loss.products.graph_bytes,
        )
        num_hvps = report.num_hvps
        notes = (*report.notes, *map(not_trained, untrained))
        sampling = self._sampling(loss, spectrum, sampled, looks_at_draws=looks)
        if sampling is not None:
            num_hvps += sampling.num_hvps
            if not math.isfinite(sampling.largest_margin):
                notes += sampling.notes
        blocks = blocks_of(spectrum, parts)
        if options.eigenvalues_per_block:
            blocks, spent = with_eigenvalues(
                blocks,
                parts,
                loss,
                solver,
                count=options.eigenvalues_per_block,
                generator_of=lambda row: self._generator(1 + row),
            )
            num_hvps += spent
        overlap = None
        if (options.overlaps or is_bought) and spectrum.vectors is not None:
            leading = spectrum.vectors[:, : len(spectrum.largest.values)]
            overlap = self._remember(loss, leading, sampling)
        return replace(
            report,
            trace=with_sampling(report.trace, sampling),
            sampling=sampling,
            blocks=blocks,
            overlap=overlap,
            num_hvps=num_hvps,
            notes=notes,
        )

    def _sweep(
        self,
        loss: TrainingLoss | Conductor,
        solver: Krylov,
        blocks: list[Tensor],
        on_products: Callable[[int], None],
        is_sampled: bool,
        is_bought: bool,
    ) -> Spectrum:
        options, earlier = self._options, self._earlier
        error = math.nan if earlier is None or not is_bought else earlier.error
        return measure_spectrum(
            loss.products,
            num_eigenvalues=options.num_eigenvalues,
            num_smallest=options.num_smallest,
            trace=options.trace,
            density=options.density,
            rtol=solver.rtol,
            trace_rtol=solver.trace_rtol,
            density_rtol=solver.density_rtol,
            max_hvps=solver.max_hvps,
            probes_per_block=solver.probes_per_block,
            generator=self._generator(0),
            on_products=on_products,
            product_error=lambda: loss.products.quality.error,
            basis=solver.basis,
            memory_limit=sweep_memory(loss, solver),
            low_precision=loss.low_precision,
            blocks=blocks,
            vectors=is_sampled or is_bought or options.overlaps,
            floor=FLOOR_SHARE * error if math.isfinite(error) else 0.0,
            only_reached=is_bought,
        )

    def _num_sampled(self, solver: Krylov, *, is_bought: bool) -> int:
        """Eigenvectors whose sampling error is asked for, at a product each."""
        largest, smallest = self._options.num_eigenvalues, self._options.num_smallest
        return min(largest, 1) if is_bought and solver.max_hvps < MANY else largest + smallest

    def _sampling(
        self,
        loss: TrainingLoss | Conductor,
        spectrum: Spectrum,
        count: int,
        *,
        looks_at_draws: bool,
    ) -> SamplingError | None:
        """How far the full training set may be, from the scatter of further products."""
        largest = len(spectrum.largest.values)
        if not count or not largest or spectrum.vectors is None:
            return None
        return sampling_error(
            loss,
            spectrum.vectors[:, :count],
            num_largest=min(largest, count),
            population=loss.sample.population,
            generator=self._generator(SCATTER),
            looks_at_draws=looks_at_draws,
        )

    def _generator(self, part: int) -> torch.Generator:
        return torch.Generator().manual_seed(self._seed + 1_000_003 * part)


def _with_sharpness(
    report: SpectrumReport,
    loss: TrainingLoss | Conductor,
    allowance: float | None,
    on_products: Callable[[int], None],
) -> tuple[SpectrumReport, float]:
    """The report with the curvature of steps along their gradients, and what that came to."""
    found, notes = batch_sharpness(loss, allowance=allowance)
    # of the optimiser the edge may have said the same
    news = [note for note in notes if note not in report.notes]
    report = replace(report, notes=(*report.notes, *news))
    if found is None:
        return report, 0.0
    # the products of all steps, as so many over the frozen samples
    products = max(round(found.num_steps * found.step_size / loss.sample.num_samples), 1)
    on_products(products)
    num_hvps = report.num_hvps + products
    return replace(report, batch_sharpness=found, num_hvps=num_hvps), found.cost


_STAYS = Note(
    "sample-does-not-grow",
    "`num_samples='auto'` stays at these samples: sampling errors need exact products of this "
    "package's engine, and at least one of the largest eigenvalues.",
)
