"""The callback that a user adds to a Trainer for the Hessian's spectrum."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch.utils.data import DataLoader
from typing_extensions import override

from lightning_hessian.callbacks.measurement import MeasurementCallback
from lightning_hessian.callbacks.measuring import OnError
from lightning_hessian.callbacks.options import ObjectiveOptions
from lightning_hessian.callbacks.progress import progress
from lightning_hessian.callbacks.schedule import Schedule
from lightning_hessian.estimators import measure_spectrum
from lightning_hessian.objective import Conductor, ProductQuality, TrainingLoss
from lightning_hessian.operators import HessianOperator
from lightning_hessian.panels import rasterize, spectrum_figure
from lightning_hessian.results import Mode, Spectrum, SpectrumReport
from lightning_hessian.writers import SpectrumWriter, spectrum_table

BLOCK_SIZE = 4
EXPECTED_HVPS = 64
HVP_UNITS = {"exact": (1.5, 3.0), "finite_difference": (2.0, 3.0)}


class HessianSpectrum(MeasurementCallback):
    """Top eigenvalues, trace and spectral density of the training loss's Hessian, in TensorBoard.

    Measures the loss that ``training_step`` returns, as a mean over a fixed sample of the training
    set, at the end of the fit, and at its start and in between as told, as far as ``max_overhead``
    allows. The run is left bit-identical.
    Every number carries its error. Reports are kept in :attr:`reports` and logged at
    ``trainer.global_step`` under ``hessian/``.

    ``eig_1..k`` and ``eig_min_1..k'`` with their ``_bound``; ``trace``, ``trace_standard_error``,
    ``trace_lower``, ``trace_upper``; ``negative_fraction`` with ``_lower`` and ``_upper``,
    ``negative_threshold``; ``loss``, ``gradient_norm``; ``num_hvps``, ``seconds``, ``overhead``,
    ``num_skipped``, ``failed``; ``hvp_error`` where products are differences of gradients. To
    TensorBoard also: histograms ``density`` and ``density_symlog``, the figure ``spectrum``, the
    text ``failure``, and a Custom Scalars page. Processes that a Trainer spawns (``ddp_spawn``,
    ``ddp_fork``) keep :attr:`reports` to themselves: loggers and the files beside checkpoints have
    them.

    Args:
        num_eigenvalues: Number of largest eigenvalues.
        num_smallest: Number of smallest (most negative) eigenvalues.
        trace: Measure the trace.
        density: Measure the spectral density and the share of negative eigenvalues.
        num_samples: Training samples that the loss averages, drawn once; "all" for the whole set.
        batch_size: Samples per forward pass; as in training when None.
        mode: "eval" (dropout off, running statistics) or "train" (fixed masks, batch statistics).
        every_n_epochs: Measure at the end of every n-th epoch; None for never.
        every_n_train_steps: Measure after every n-th optimiser step; None for never.
        at_checkpoints: Measure whenever a checkpoint is saved.
        max_overhead: Share of the training's wall time that the callback may take. What is due is
            left out where it would take more; the end of the fit and checkpoints are measured in
            any case. With None nothing is left out, and when it is measured is reproducible.
        rtol: Wanted bound of each eigenvalue, relative to it (or to 1 % of the largest).
        trace_rtol: Wanted standard error of the trace, relative to it.
        max_hvps: Bound on the Hessian-vector products of one measurement.
        parameters: Patterns of parameter names such as "encoder.*"; all trainable ones when None.
        precision: Bits of the arithmetic; when None 32, or 64 where the module is in 64 and for
            differences of gradients.
        seed: Of the samples, the probes, and the random numbers inside the step.
        hvp: "auto" takes exact products, and differences of gradients where there are none; "exact"
            and "finite_difference" insist on one of the two.
        loss: None for the module's hessian_loss(batch, batch_idx) if it has one, else the loss of
            training_step; the name of another method; or the number (from 0) of a manual_backward
            call in the step, over the parameters of the optimisers that step on it.
        dataloader: Batches to measure on instead of samples of the training set.
        weight_fn: Weight of a batch in the mean, such as its number of tokens; its number of
            samples when None.
        name: First part of all tags, and what tells two of these callbacks apart.
        custom_scalars: Write a Custom Scalars page into a sub-run of the given name.
        on_error: "warn" records why a measurement failed and goes on; "raise" ends the fit.

    Raises:
        ValueError: If an option is out of its range.
    """

    def __init__(
        self,
        num_eigenvalues: int = 5,
        num_smallest: int = 1,
        trace: bool = True,
        density: bool = True,
        num_samples: int | Literal["all"] = 2048,
        batch_size: int | None = None,
        mode: Mode = "eval",
        every_n_epochs: int | None = 1,
        every_n_train_steps: int | None = None,
        at_checkpoints: bool = False,
        max_overhead: float | None = 0.05,
        rtol: float = 1e-2,
        trace_rtol: float = 0.05,
        max_hvps: int = 200,
        parameters: Sequence[str] | None = None,
        precision: Literal[32, 64] | None = None,
        seed: int = 0,
        hvp: Literal["auto", "exact", "finite_difference"] = "auto",
        loss: str | int | None = None,
        # bare, as jsonargparse makes no objects of an `Iterable` or of a type with a parameter
        dataloader: DataLoader | Iterable[Any] | None = None,  # type: ignore[type-arg]
        weight_fn: Callable[[Any], float] | None = None,
        name: str = "hessian",
        custom_scalars: bool = True,
        on_error: OnError = "warn",
    ) -> None:
        _check(num_eigenvalues, num_smallest, trace, density, rtol, trace_rtol, max_hvps)
        wanted = (num_eigenvalues, num_smallest, trace, density, rtol, trace_rtol, max_hvps)
        objective = ObjectiveOptions(
            num_samples=num_samples,
            batch_size=batch_size,
            mode=mode,
            precision=precision,
            parameters=parameters,
            seed=seed,
            hvp=hvp,
            loss=loss,
            dataloader=dataloader,
            weight_fn=weight_fn,
        )
        super().__init__(
            name=name,
            report_type=SpectrumReport,
            objective=objective,
            schedule=Schedule(
                every_n_epochs=every_n_epochs,
                every_n_train_steps=every_n_train_steps,
                at_checkpoints=at_checkpoints,
            ),
            max_overhead=max_overhead,
            on_error=on_error,
            settings=f"{wanted} of {objective}",
        )
        self.reports: list[SpectrumReport] = []
        self._num_eigenvalues = num_eigenvalues
        self._num_smallest = num_smallest
        self._trace = trace
        self._density = density
        self._rtol = rtol
        self._trace_rtol = trace_rtol
        self._max_hvps = max_hvps
        self._writer = SpectrumWriter(prefix=name, custom_scalars=custom_scalars)
        self._has_told_cost = False

    @property
    @override
    def expected_gradients(self) -> float:
        low, _ = HVP_UNITS["exact"]
        return 1 + low * min(self._max_hvps, EXPECTED_HVPS)

    @override
    def measure(self, loss: TrainingLoss | Conductor, trainer: Trainer) -> SpectrumReport:
        start = time.perf_counter()
        gradient = loss.gradient()
        gradient_seconds = time.perf_counter() - start
        max_hvps = 2 * BLOCK_SIZE if trainer.fast_dev_run else self._max_hvps  # type: ignore[attr-defined]
        self._tell_cost(loss, gradient_seconds, max_hvps)
        with progress(trainer, max_hvps) as bar:
            spectrum = measure_spectrum(
                HessianOperator(loss),
                num_eigenvalues=self._num_eigenvalues,
                num_smallest=self._num_smallest,
                trace=self._trace,
                density=self._density,
                rtol=self._rtol,
                trace_rtol=self._trace_rtol,
                max_hvps=max_hvps,
                block_size=BLOCK_SIZE,
                generator=torch.Generator().manual_seed(self._options.seed),
                on_products=bar.update,
                product_error=lambda: loss.products.error,
            )
        return SpectrumReport(
            **_fields(spectrum, loss.products),
            loss=gradient.loss,
            gradient_norm=float(gradient.vector.norm()),
            gradient_seconds=gradient_seconds,
            num_parameters=loss.size,
            num_samples=loss.batches.num_samples,
            data=loss.batches.description,
            loss_name=loss.name,
            unused_parameters=gradient.unused,
        )

    @override
    def publish(self, trainer: Trainer, report: SpectrumReport) -> None:
        is_drawn = report.density is not None and trainer.loggers
        figures = {"spectrum": rasterize(spectrum_figure(report))} if is_drawn else {}
        self._writer.write(trainer.loggers, report, figures)

    @override
    def table(self, reports: Sequence[SpectrumReport]) -> str:
        return spectrum_table(reports)

    def _tell_cost(
        self, loss: TrainingLoss | Conductor, gradient_seconds: float, max_hvps: int
    ) -> None:
        if self._has_told_cost:
            return
        self._has_told_cost = True
        method = loss.products.method
        low, high = (units * max_hvps * gradient_seconds for units in HVP_UNITS[method])
        rank_zero_info(
            f"HessianSpectrum: {loss.size:,} parameters, {loss.batches.description}, "
            f"{self._options.mode} mode. A gradient over them takes {gradient_seconds:.3g} s; a "
            f"report costs at most {max_hvps} Hessian-vector products, about {low:.3g} to "
            f"{high:.3g} s, and fewer when its tolerances are met earlier."
        )


def _fields(spectrum: Spectrum, products: ProductQuality) -> dict[str, Any]:
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


def _check(
    num_eigenvalues: int,
    num_smallest: int,
    trace: bool,
    density: bool,
    rtol: float,
    trace_rtol: float,
    max_hvps: int,
) -> None:
    for name, count in (("num_eigenvalues", num_eigenvalues), ("num_smallest", num_smallest)):
        if type(count) is not int or count < 0:
            raise ValueError(f"`{name}` must be a whole number of at least 0, got {count!r}.")
    if not (num_eigenvalues or num_smallest or trace or density):
        raise ValueError(
            "`HessianSpectrum` has nothing to measure: `num_eigenvalues` and `num_smallest` are 0, "
            "`trace` and `density` are False. Ask for at least one."
        )
    for name, tolerance in (("rtol", rtol), ("trace_rtol", trace_rtol)):
        if not 0 < tolerance < 1:
            raise ValueError(f"`{name}` must lie between 0 and 1, got {tolerance}.")
    if type(max_hvps) is not int or max_hvps < 2 * BLOCK_SIZE:
        raise ValueError(
            f"`max_hvps` must be a whole number of at least {2 * BLOCK_SIZE}, two blocks of "
            f"{BLOCK_SIZE}, got {max_hvps!r}."
        )
