"""Trainings on a GPU with the callback in them: time, memory, and the CPU's report beside it."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from examples.benchmarks.fits import Fit
from examples.benchmarks.overhead import train
from examples.benchmarks.tables import header, row, spread
from examples.benchmarks.timing import seconds
from lightning_hessian import HessianSpectrum, SpectrumReport, analyze

ACCELERATORS = {"cuda": "gpu", "cpu": "cpu"}
"""What a Trainer calls the devices."""

MIB = 2**20
SETTINGS: dict[str, Callable[[], HessianSpectrum]] = {
    "defaults": HessianSpectrum,
    "max_overhead=None": lambda: HessianSpectrum(max_overhead=None),
}
COMPARED_SAMPLES, COMPARED_EPOCHS = 256, 2
"""Of the training whose report both devices make: few, as one of them is the CPU."""


@dataclass(slots=True)
class Run:
    """One training.

    Attributes:
        seconds: Of the whole fit.
        peak: MiB of the GPU's memory; 0 on the CPU.
        reports: What the callback found.
    """

    seconds: float
    peak: float
    reports: list[SpectrumReport]


@dataclass(slots=True)
class Training:
    """A training with a setting of the callback and without it, in turn.

    Attributes:
        with_it: One run for each repetition.
        without: Just before or after.
    """

    with_it: list[Run] = field(default_factory=list)
    without: list[Run] = field(default_factory=list)

    @property
    def more(self) -> list[float]:
        """Per cent of wall time that the callback adds."""
        pairs = zip(self.with_it, self.without, strict=True)
        return [100 * (ours.seconds / alone.seconds - 1) for ours, alone in pairs]

    @property
    def counted(self) -> float:
        """Share of the training's sample gradients that all reports of a run came to."""
        return statistics.median(run.reports[-1].overhead for run in self.with_it)

    @property
    def reports(self) -> list[SpectrumReport]:
        """Of all repetitions."""
        return [report for run in self.with_it for report in run.reports]


def run_fit(fit: Fit, folder: Path | None, device: str, callback: HessianSpectrum | None) -> Run:
    """Train once, with the callback if there is one."""
    loader = fit.loader(folder)
    callbacks: list[pl.Callback] = [] if callback is None else [callback]
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    took = seconds(lambda: train(fit.module, loader, fit.epochs, callbacks, ACCELERATORS[device]))
    peak = torch.cuda.max_memory_allocated() / MIB if device == "cuda" else 0.0
    return Run(took, peak, [] if callback is None else list(callback.reports))


def compare(fit: Fit, folder: Path | None, device: str, *, repetitions: int) -> dict[str, Training]:
    """Train without and with each setting, in turn."""
    for callback in (None, HessianSpectrum()):  # what is loaded once is nobody's
        run_fit(fit, folder, device, callback)
    found = {name: Training() for name in SETTINGS}
    for repetition in range(repetitions):
        for name, make in SETTINGS.items():
            # which of the two comes first changes, so that no drift favours one
            for has_it in (False, True) if repetition % 2 == 0 else (True, False):
                runs = found[name].with_it if has_it else found[name].without
                runs.append(run_fit(fit, folder, device, make() if has_it else None))
    return found


def print_reports(found: dict[str, dict[str, Training]], device: str) -> None:
    """A table of what a report takes in each training."""
    columns = ("training", "setting", "seconds", "longest", "HVPs", "peak, MiB", "peak without")
    print(header("Reports in a training", *columns))
    for name, settings in found.items():
        for setting, training in settings.items():
            took = [report.seconds for report in training.reports]
            peaks = [max(r.peak for r in runs) for runs in (training.with_it, training.without)]
            cells = (
                f"{statistics.median(took):.3f}",
                f"{max(took):.3f}",
                f"{statistics.median(report.num_hvps for report in training.reports):.0f}",
                *(f"{peak:.0f}" if device == "cuda" else "-" for peak in peaks),
            )
            print(row(name, setting, *cells), flush=True)
    if device != "cuda":
        print("\nPeaks of memory are left out: torch counts them on a GPU only.")


def print_prices(found: dict[str, dict[str, Training]]) -> None:
    """A table of what the callback may cost, and of what it took by the clock."""
    columns = ("training", "setting", "s without", "s with", "counted", "more time, %", "reports")
    print(header("The price, counted and by the clock", *columns))
    for name, settings in found.items():
        for setting, training in settings.items():
            without, with_it = (
                statistics.median(run.seconds for run in runs)
                for runs in (training.without, training.with_it)
            )
            cells = (
                f"{without:.2f}",
                f"{with_it:.2f}",
                f"{training.counted:.0%}",
                spread(training.more, "+.1f"),
                f"{statistics.median(len(run.reports) for run in training.with_it):.0f}",
            )
            print(row(name, setting, *cells), flush=True)
    print("\nCounted: sample gradients of all reports, over those of the training.")


def report_on(
    accelerator: str, fit: Fit, checkpoint: Path, data: DataLoader[tuple[Tensor, ...]]
) -> SpectrumReport:
    """Of a checkpoint, by the callback itself."""
    with redirect_stderr(StringIO()):
        trainer = pl.Trainer(
            accelerator=accelerator,
            devices=1,
            max_epochs=1,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
        )
        (report,) = analyze(
            fit.module(),
            checkpoint,
            dataloaders=data,
            callback=HessianSpectrum(max_overhead=None),
            trainer=trainer,
            sidecar=False,
            verbose=False,
        )
    return report


def reports_of_both(
    fit: Fit, folder: Path | None, device: str
) -> tuple[SpectrumReport, SpectrumReport]:
    """On the CPU and on the device, at the same weights, on the same samples."""
    part = Subset(fit.data(folder), range(COMPARED_SAMPLES))
    data = DataLoader(part, batch_size=fit.batch_size, shuffle=True)
    trainer = train(fit.module, data, COMPARED_EPOCHS, [], ACCELERATORS[device])
    with tempfile.TemporaryDirectory() as place:
        checkpoint = Path(place) / "trained.ckpt"
        trainer.save_checkpoint(checkpoint)
        on_cpu = report_on("cpu", fit, checkpoint, data)
        return on_cpu, report_on(ACCELERATORS[device], fit, checkpoint, data)


def difference(ours: Tensor | float, truth: Tensor | float) -> str:
    """The largest relative one."""
    here, there = (torch.as_tensor(each).cpu().double() for each in (ours, truth))
    return f"{float(((here - there) / there).abs().max()):.1e}"


def print_truth(fits: Sequence[Fit], folder: Path | None, device: str) -> None:
    """A table of the largest relative differences between the two devices' reports."""
    columns = ("training", "loss", "largest eigenvalues", "trace", "HVPs: CPU", "HVPs: GPU")
    print(header("The GPU's report against the CPU's", *columns))
    for fit in fits:
        on_cpu, on_device = reports_of_both(fit, folder, device)
        assert on_cpu.trace is not None, on_cpu.failure
        assert on_device.trace is not None, on_device.failure
        cells = (
            difference(on_device.loss, on_cpu.loss),
            difference(on_device.largest.values, on_cpu.largest.values),
            difference(on_device.trace.value, on_cpu.trace.value),
            on_cpu.num_hvps,
            on_device.num_hvps,
        )
        print(row(fit.name, *cells), flush=True)
    if device != "cuda":
        print("\nBoth reports are the CPU's here, which checks this program and nothing else.")
