"""From a training loss to a report of its Hessian's spectrum."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lightning_hessian.engines import pyhessian_spectrum
from lightning_hessian.hvp import AlongVectors, PerBatchOperator
from lightning_hessian.linalg import (
    BlockOperator,
    SymmetricOperator,
    align,
    leading_eigenvectors,
    measure_spectrum,
)
from lightning_hessian.loss import SHARE, Conductor, TrainingLoss, free_memory
from lightning_hessian.options import SpectrumOptions
from lightning_hessian.records import ProductQuality, SamplingError, Spectrum
from lightning_hessian.studies.sampling_error import sampling_error


class SpectrumStudy:
    """Measures what the options ask for; remembers eigenvectors from one report to the next.

    Args:
        options: What is asked for.
        seed: Of the probes.
    """

    def __init__(self, options: SpectrumOptions, seed: int) -> None:
        self._options = options
        self._seed = seed
        self._earlier: tuple[tuple[str, ...], Tensor] | None = None
        self._latest: tuple[tuple[str, ...], Tensor] | None = None

    def max_hvps(self, size: int, *, is_trial: bool) -> int:
        """Bound on the products of the sweep and the trace.

        Args:
            size: Number of parameters.
            is_trial: Whether only a trial is made, of few products.

        Returns:
            The bound.
        """
        options = self._options.trial if is_trial else self._options
        if options.engine == "pyhessian":
            return options.pyhessian.max_hvps(
                size,
                num_eigenvalues=options.num_eigenvalues,
                trace=options.trace,
                density=options.density,
            )
        return options.max_hvps

    def settle(self) -> None:
        """Compare from now on with the eigenvectors measured last, as their report is recorded."""
        self._earlier = self._latest

    def fields(
        self,
        loss: TrainingLoss | Conductor,
        on_products: Callable[[int], None],
        *,
        is_trial: bool = False,
    ) -> dict[str, Any]:
        """Measure.

        Args:
            loss: At the present parameters.
            on_products: Told the number of products after each block.
            is_trial: Whether only a trial is made, of few products.

        Returns:
            Fields of a :class:`SpectrumReport`.
        """
        options = self._options.trial if is_trial else self._options
        if options.engine == "pyhessian":
            spectrum = pyhessian_spectrum(
                loss,
                num_eigenvalues=options.num_eigenvalues,
                trace=options.trace,
                density=options.density,
                options=options.pyhessian,
                seed=self._seed,
                on_products=on_products,
            )
            return fields_of(spectrum, loss.products.quality) | {"engine": "pyhessian"}
        scatters = not loss.sample.is_whole and loss.products.quality.method == "exact"
        operator: SymmetricOperator = PerBatchOperator(loss) if scatters else loss.products
        blocks = loss.parameters.blocks(options.blocks) if options.blocks else {}
        spectrum = self._sweep(loss, operator, options, list(blocks.values()), on_products)
        found = fields_of(spectrum, loss.products.quality)
        found["graph_bytes"] = loss.products.graph_bytes
        if isinstance(operator, PerBatchOperator):
            sampling = _sampling(loss, spectrum, operator.take())
            found["sampling"] = sampling
            if sampling is not None and not math.isfinite(sampling.largest_margin):
                found["notes"] += sampling.notes
            found["num_hvps"] += 0 if sampling is None else sampling.num_hvps
        if blocks:
            found |= _block_traces(spectrum, blocks)
        if options.block_eigenvalues:
            more = self._block_eigenvalues(loss, operator, options, blocks)
            found["num_hvps"] += more.pop("num_hvps")
            found |= more
        if options.overlaps:
            found |= self._overlaps(spectrum, loss.parameters.names)
        return found

    def _sweep(
        self,
        loss: TrainingLoss | Conductor,
        operator: SymmetricOperator,
        options: SpectrumOptions,
        blocks: list[Tensor],
        on_products: Callable[[int], None],
    ) -> Spectrum:
        limit = options.graph_memory
        if limit is None:
            limit = int(SHARE * free_memory(loss.device))
        return measure_spectrum(
            operator,
            num_eigenvalues=options.num_eigenvalues,
            num_smallest=options.num_smallest,
            trace=options.trace,
            density=options.density,
            rtol=options.rtol,
            trace_rtol=options.trace_rtol,
            density_rtol=options.density_rtol,
            max_hvps=options.max_hvps,
            block_size=options.block_size,
            generator=self._generator(0),
            on_products=on_products,
            product_error=lambda: loss.products.quality.error,
            memory_limit=limit,
            rough=loss.low_precision,
            blocks=blocks,
            vectors=isinstance(operator, PerBatchOperator) or options.overlaps,
        )

    def _block_eigenvalues(
        self,
        loss: TrainingLoss | Conductor,
        operator: SymmetricOperator,
        options: SpectrumOptions,
        blocks: dict[str, Tensor],
    ) -> dict[str, Any]:
        wanted, spent = options.block_eigenvalues, 0
        values = torch.full((len(blocks), wanted), math.nan, dtype=torch.float64)
        bounds = values.clone()
        for row, positions in enumerate(blocks.values()):
            pairs = leading_eigenvectors(
                BlockOperator(operator, positions),
                count=min(wanted, len(positions)),
                rtol=options.rtol,
                max_hvps=max(options.max_hvps, wanted + 1),  # whole blocks of two
                block_size=2,
                generator=self._generator(1 + row),
                product_error=lambda: loss.products.quality.error,
            )
            count = len(pairs.eigenvalues.values)
            values[row, :count] = pairs.eigenvalues.values
            bounds[row, :count] = pairs.eigenvalues.residual_bounds
            spent += pairs.num_hvps
        return {
            "block_eigenvalues": values,
            "block_residual_bounds": bounds,
            "num_hvps": spent,
        }

    def _overlaps(self, spectrum: Spectrum, names: tuple[str, ...]) -> dict[str, Any]:
        assert spectrum.vectors is not None
        vectors = spectrum.vectors[:, : len(spectrum.largest.values)]
        self._latest = names, vectors.cpu()
        if self._earlier is None or self._earlier[0] != names:
            return {}
        if self._earlier[1].shape[0] != vectors.shape[0]:
            return {}
        overlap = align(vectors, self._earlier[1])
        self._latest = names, overlap.vectors.cpu()
        return {
            "eigenvector_overlaps": overlap.cosines,
            "eigenvector_partners": overlap.partners.double(),
            "subspace_overlap": overlap.subspace,
        }

    def _generator(self, part: int) -> torch.Generator:
        return torch.Generator().manual_seed(self._seed + 1_000_003 * part)


def _block_traces(spectrum: Spectrum, blocks: dict[str, Tensor]) -> dict[str, Any]:
    found: dict[str, Any] = {"blocks": tuple(blocks)}
    if spectrum.trace is not None and spectrum.trace.blocks is not None:
        found["block_traces"] = spectrum.trace.blocks.values
        found["block_trace_standard_errors"] = spectrum.trace.blocks.standard_errors
    return found


def _sampling(
    loss: TrainingLoss | Conductor, spectrum: Spectrum, scatter: AlongVectors | None
) -> SamplingError | None:
    """How far the full training set may be, from the scatter of the products made anyway."""
    vectors, num_largest = spectrum.vectors, len(spectrum.largest.values)
    if vectors is None or num_largest == 0 or scatter is None:
        return None
    count, num_probes = (
        spectrum.dimension,
        0 if spectrum.trace is None else spectrum.trace.num_probes,
    )
    known = scatter.part(slice(0, count)) if count else None
    probes = scatter.part(slice(count, count + num_probes)) if count and num_probes else None
    return sampling_error(
        loss,
        vectors,
        num_largest=num_largest,
        known=known,
        probes=probes,
        population=loss.sample.population,
    )


def fields_of(spectrum: Spectrum, products: ProductQuality) -> dict[str, Any]:
    """A spectrum's numbers under the names of a report's fields."""
    fields: dict[str, Any] = {
        "eigenvalues": spectrum.largest.values,
        "residual_bounds": spectrum.largest.residual_bounds,
        "converged": spectrum.largest.converged,
        "smallest_eigenvalues": spectrum.smallest.values,
        "smallest_residual_bounds": spectrum.smallest.residual_bounds,
        "smallest_converged": spectrum.smallest.converged,
        "density": spectrum.density,
        "num_hvps": spectrum.num_hvps,
        "notes": (*spectrum.notes, *products.notes),
        "hvp": products.method,
        "hvp_error": products.error,
    }
    if spectrum.trace is not None:
        # the bounds have the products' error in them, the trace's probes have not
        lower, upper = spectrum.trace.interval
        error = products.trace_error
        fields["trace"] = spectrum.trace.value
        fields["trace_standard_error"] = math.hypot(spectrum.trace.standard_error, error)
        fields["trace_interval"] = (lower - error, upper + error)
    if spectrum.negative_mass is not None:
        fields["negative_fraction"] = spectrum.negative_mass.fraction
        fields["negative_fraction_bracket"] = spectrum.negative_mass.bracket
        fields["negative_threshold"] = spectrum.negative_mass.threshold
    return fields
