"""The callback that a user adds to a Trainer for the Hessian's spectrum."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Literal

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch.utils.data import DataLoader
from typing_extensions import override

from lightning_hessian.callbacks.measurement import MeasurementCallback
from lightning_hessian.callbacks.measuring import OnError
from lightning_hessian.fit import Schedule, progress
from lightning_hessian.loss import Conductor, TrainingLoss
from lightning_hessian.options import (
    LossOptions,
    PyHessianOptions,
    SpectrumOptions,
    SweepPrecision,
)
from lightning_hessian.records import Engine, Mode, SpectrumReport
from lightning_hessian.show import ReportWriter, rasterize, spectrum_figures, table
from lightning_hessian.studies import SpectrumStudy

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
        num_samples: Training samples that the loss averages, drawn once; "all" for the whole set;
            "auto" for so many that the sampling errors are within sampling_rtol.
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
        density_rtol: The density has come to rest when its Wasserstein distance over four products
            is below this share of the range.
        sampling_rtol: Wanted sampling error of the largest eigenvalue, the trace (relative) and the
            density (of the range), for num_samples="auto".
        max_hvps: Bound on the Hessian-vector products of one measurement.
        block_size: Probes in a block of the sweep; when None 4, or 2 from 20,000 parameters on.
        sweep_precision: "full"; "fast_float32" by faster matrix products where these lose nothing;
            "bfloat16" for a sweep with few digits, its eigenvalues refined by exact products.
        memory_limit: GiB that gradient graphs kept between products, and the sweep's vectors, may
            hold, half each; when None up to a quarter of what is free, each.
        blocks: Patterns of parameter names, such as ["encoder.*", "head.*"], to estimate the traces
            of their diagonal blocks from the same products; "modules" for one of each module.
        block_eigenvalues: Number of largest eigenvalues of each block.
        overlaps: Compare the eigenvectors with the last report's.
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
        engine: "krylov", or "pyhessian" for the numbers of PyHessian 0.1 itself.
        pyhessian: Its stopping rules, such as {"eigenvalues_maxIter": 50}; its defaults when None.
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
        num_samples: int | Literal["all", "auto"] = 2048,
        batch_size: int | None = None,
        mode: Mode = "eval",
        every_n_epochs: int | None = 1,
        every_n_train_steps: int | None = None,
        at_checkpoints: bool = False,
        max_overhead: float | None = 0.05,
        rtol: float = 1e-2,
        trace_rtol: float = 0.05,
        density_rtol: float = 1e-3,
        sampling_rtol: float = 0.05,
        max_hvps: int = 200,
        block_size: int | None = None,
        sweep_precision: SweepPrecision = "full",
        memory_limit: float | None = None,
        blocks: Sequence[str] | Literal["modules"] = (),
        block_eigenvalues: int = 0,
        overlaps: bool = False,
        parameters: Sequence[str] | None = None,
        precision: Literal[32, 64] | None = None,
        seed: int = 0,
        hvp: Literal["auto", "exact", "finite_difference"] = "auto",
        loss: str | int | None = None,
        # bare, as jsonargparse makes no objects of an `Iterable` or of a type with a parameter
        dataloader: DataLoader | Iterable[Any] | None = None,  # type: ignore[type-arg]
        weight_fn: Callable[[Any], float] | None = None,
        engine: Engine = "krylov",
        pyhessian: PyHessianOptions | dict[str, Any] | None = None,
        name: str = "hessian",
        custom_scalars: bool = True,
        on_error: OnError = "warn",
    ) -> None:
        spectrum = SpectrumOptions(
            num_eigenvalues=num_eigenvalues,
            num_smallest=num_smallest,
            trace=trace,
            density=density,
            rtol=rtol,
            trace_rtol=trace_rtol,
            density_rtol=density_rtol,
            sampling_rtol=sampling_rtol,
            max_hvps=max_hvps,
            block_size=block_size,
            sweep_precision=sweep_precision,
            memory_limit=memory_limit,
            blocks=blocks if isinstance(blocks, str) else tuple(blocks or ()),
            block_eigenvalues=block_eigenvalues,
            overlaps=overlaps,
            engine=engine,
            pyhessian=PyHessianOptions.of(pyhessian),
        )
        objective = LossOptions(
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
            graph_memory=spectrum.graph_memory,
            sweep_precision=sweep_precision,
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
            settings=f"{spectrum} of {objective}",
        )
        self.reports: list[SpectrumReport] = []
        self._spectrum = spectrum
        self._study = SpectrumStudy(spectrum, seed, grows=num_samples == "auto")
        self._writer = ReportWriter(prefix=name, custom_scalars=custom_scalars)
        self._has_told_cost = False

    @property
    @override
    def expected_gradients(self) -> float:
        return self._study.expected_gradients

    @override
    def wanted_samples(self, report: SpectrumReport) -> int:
        return self._study.required_samples(report)

    @override
    def measure(self, loss: TrainingLoss | Conductor, trainer: Trainer) -> SpectrumReport:
        is_trial = bool(trainer.fast_dev_run)  # type: ignore[attr-defined]
        max_hvps = self._study.max_hvps(loss.size, is_trial=is_trial)
        with progress(trainer, max_hvps) as bar:
            return self._study.measure(
                loss,
                on_gradient=partial(self._tell_cost, loss, max_hvps),
                on_products=bar.update,
                is_trial=is_trial,
            )

    @override
    def publish(self, trainer: Trainer, report: SpectrumReport) -> None:
        self._study.settle()
        figures = spectrum_figures(self.reports) if trainer.loggers else {}
        images = {name: rasterize(figure) for name, figure in figures.items()}
        self._writer.write(trainer.loggers, report, images)

    @override
    def table(self, reports: Sequence[SpectrumReport]) -> str:
        return table(SpectrumReport, reports)

    def _tell_cost(
        self, loss: TrainingLoss | Conductor, max_hvps: int, gradient_seconds: float
    ) -> None:
        if self._has_told_cost:
            return
        self._has_told_cost = True
        method = loss.products.quality.method
        low, high = (units * max_hvps * gradient_seconds for units in HVP_UNITS[method])
        rank_zero_info(
            f"HessianSpectrum: {loss.size:,} parameters, {loss.sample.description}, "
            f"{self._options.mode} mode. A gradient over them takes {gradient_seconds:.3g} s; a "
            f"report costs at most {max_hvps} Hessian-vector products, about {low:.3g} to "
            f"{high:.3g} s, and fewer when its tolerances are met earlier."
        )
