"""What the callback shows at its defaults in ordinary trainings, and whether it is true.

Run it from the repository: ``python -m examples.benchmarks.curve --data FOLDER``, with a folder as
in ``examples/data.py`` beside ``cifar10/``; without, on what needs no files. For each training and
seed: how many points, what was promised and counted, processor time with and without in turn, and
of the largest eigenvalue and the trace the distance to those of the full training set at the same
steps, found by a long sweep (``--no-truth`` leaves that out: it takes far longer than the rest).
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import time
import warnings
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.utils.data import Dataset

from examples.benchmarks.fits import FITS, Fit
from lightning_hessian import HessianSpectrum, SpectrumReport
from lightning_hessian.data import FrozenBatch, FrozenBatches
from lightning_hessian.hvp import open_loss
from lightning_hessian.linalg import measure_spectrum

BATCH = 500
"""Samples in a batch of the truth."""


@dataclass(slots=True)
class Course:
    """One training with the callback.

    Attributes:
        reports: In order.
        states: The weights of each.
        with_it: Processor seconds.
        without: Of the same training alone.
    """

    reports: list[SpectrumReport]
    states: list[dict[str, Tensor]]
    with_it: float
    without: float


@dataclass(slots=True)
class Errors:
    """Against the full training set, point by point.

    Attributes:
        relative: ``lambda_1`` over its truth, less one.
        lengths: Of its interval, over the truth.
        covered: Whether the interval holds the truth.
        trace_covered: The same of the trace.
    """

    relative: list[float] = field(default_factory=list)
    lengths: list[float] = field(default_factory=list)
    covered: list[bool] = field(default_factory=list)
    trace_covered: list[bool] = field(default_factory=list)


class Copies(pl.Callback):
    """Keeps the weights of each new report; comes after the callback."""

    def __init__(self, spectrum: HessianSpectrum) -> None:
        self.spectrum = spectrum
        self.states: list[dict[str, Tensor]] = []

    def _keep(self, module: pl.LightningModule) -> None:
        while len(self.states) < len(self.spectrum.reports):
            self.states.append({k: v.clone() for k, v in module.state_dict().items()})

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """After the report of the start."""
        self._keep(pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any
    ) -> None:
        """After those in between."""
        self._keep(pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """After the last."""
        self._keep(pl_module)


def train(fit: Fit, folder: Path | None, seed: int, callbacks: list[pl.Callback]) -> float:
    """Processor seconds of one training."""
    pl.seed_everything(seed, verbose=False)
    with tempfile.TemporaryDirectory() as logs, redirect_stderr(StringIO()):
        trainer = pl.Trainer(
            accelerator="cpu",
            max_epochs=fit.epochs,
            callbacks=callbacks,
            logger=TensorBoardLogger(logs, name=None),
            enable_model_summary=False,
            enable_progress_bar=False,
            enable_checkpointing=False,
        )
        module, loader = fit.module(), fit.loader(folder)
        start = time.process_time()
        trainer.fit(module, loader)
        return time.process_time() - start


def course(fit: Fit, folder: Path | None, seed: int) -> Course:
    """Train with and without, in an order that changes with the seed."""
    spectrum = HessianSpectrum(seed=seed)
    copies = Copies(spectrum)
    took = {}
    for is_with in (True, False) if seed % 2 else (False, True):
        took[is_with] = train(fit, folder, seed, [spectrum, copies] if is_with else [])
    return Course(spectrum.reports, copies.states, took[True], took[False])


def truth(
    fit: Fit, data: Dataset[tuple[Tensor, ...]], state: dict[str, Tensor]
) -> tuple[float, float]:
    """The largest eigenvalue and the trace over the full training set."""
    module = fit.module()
    module.load_state_dict(state)
    module.log = lambda *_, **__: None  # type: ignore[method-assign,assignment]
    whole = data[:]  # type: ignore[index]
    parts = zip(*(tensor.split(BATCH) for tensor in whole), strict=True)
    batches = tuple(
        FrozenBatch(part, weight=len(part[0]), index=index, num_samples=len(part[0]))
        for index, part in enumerate(parts)
    )
    everything = FrozenBatches(batches, len(whole[0]), "the training set")
    with open_loss(module, module.training_step, everything) as loss:
        found = measure_spectrum(
            loss.products,
            num_eigenvalues=1,
            num_smallest=0,
            density=False,
            rtol=1e-3,
            trace_rtol=0.03,
            generator=torch.Generator().manual_seed(1),
        )
    assert found.trace is not None
    return float(found.largest.values[0]), found.trace.value


def compare(fit: Fit, folder: Path | None, found: Course, errors: Errors) -> None:
    """Set every point but the start beside the truth."""
    data = fit.data(folder)
    pairs = list(zip(found.reports, found.states, strict=True))
    for report, state in pairs[1:]:
        if not len(report.largest.values):
            continue
        largest, trace = truth(fit, data, state)
        errors.relative.append(float(report.largest.values[0]) / largest - 1)
        if report.sampling is not None:
            low, high = report.sampling.largest_interval
            errors.lengths.append((high - low) / largest)
            errors.covered.append(low <= largest <= high)
        if report.trace is not None:
            low, high = report.trace.interval
            errors.trace_covered.append(low <= trace <= high)


def row(fit: Fit, courses: list[Course], errors: Errors) -> str:
    """One line of the table."""
    points = [len(c.reports) for c in courses]
    counted = statistics.median(c.reports[-1].overhead for c in courses)
    measured = statistics.median(c.with_it / c.without - 1 for c in courses)
    cells = [
        fit.name,
        f"{min(points)}",
        f"{counted:.0%}",
        f"{measured:+.0%}",
        f"{courses[0].reports[-1].num_samples:,}",
    ]
    if errors.relative:
        rms = statistics.mean(e**2 for e in errors.relative) ** 0.5
        cells += [f"{rms:.2f}", _share(errors.covered), f"{_median(errors.lengths):.2f}"]
        cells += [_share(errors.trace_covered)]
    else:
        cells += ["-"] * 4
    return f"| {' | '.join(cells)} |"


def _share(flags: list[bool]) -> str:
    return f"{sum(flags)} of {len(flags)}"


def _median(values: list[float]) -> float:
    return statistics.median(values) if values else float("nan")


HEADING = (
    "| training | points | counted | processor time | samples | rms error of the largest | "
    "covered | length | trace covered |\n|---|---|---|---|---|---|---|---|---|"
)


def main() -> None:
    """Print a row for each training."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of the data")
    parser.add_argument("--fits", nargs="*", default=[fit.name for fit in FITS])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-truth", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    print(HEADING, flush=True)
    for fit in FITS:
        if fit.name not in options.fits or (fit.needs_folder and options.data is None):
            continue
        train(fit, options.data, 0, [HessianSpectrum()])  # what is loaded once is nobody's
        courses = [course(fit, options.data, seed) for seed in range(options.seeds)]
        errors = Errors()
        for found in [] if options.no_truth else courses:
            compare(fit, options.data, found, errors)
        print(row(fit, courses, errors), flush=True)


if __name__ == "__main__":
    main()
