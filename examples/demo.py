"""Train a small network on scikit-learn's digits and watch the Hessian of its loss.

Run it from the repository: ``make demo``, or ``python examples/demo.py --out runs/demo``.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_hessian import HessianSpectrum, SpectrumReport
from lightning_hessian.panels import history_figure, spectrum_figure


class DigitsClassifier(pl.LightningModule):
    """An ordinary Lightning module, which knows nothing of Hessians."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10)
        )

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Cross-entropy of one batch."""
        images, labels = batch
        loss = F.cross_entropy(self.network(images), labels)
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Plain Adam."""
        return torch.optim.Adam(self.parameters(), lr=2e-3)


def digits() -> DataLoader[tuple[Tensor, ...]]:
    """The 1,797 images of 8 x 8 pixels that come with scikit-learn."""
    images, labels = load_digits(return_X_y=True)
    dataset = TensorDataset(torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels))
    return DataLoader(dataset, batch_size=128, shuffle=True)


def print_table(reports: Sequence[SpectrumReport]) -> None:
    """One line a measurement; ``+-`` is a residual bound, of the trace a standard error."""
    print(
        f"\n{'step':>5} {'loss':>7} {'largest eigenvalue':>21} {'smallest eigenvalue':>22} "
        f"{'trace':>15} {'negative share':>16} {'HVPs':>5} {'seconds':>8}"
    )
    for report in reports:
        if report.failure is not None:
            print(f"{report.global_step:>5} {report.failure}")
            continue
        low, high = report.negative_fraction_bracket
        largest = _with_error(report.eigenvalues[0], report.residual_bounds[0])
        smallest = _with_error(report.smallest_eigenvalues[0], report.smallest_residual_bounds[0])
        print(
            f"{report.global_step:>5} {report.loss:>7.4f} {largest:>21} {smallest:>22} "
            f"{_with_error(report.trace, report.trace_standard_error):>15} "
            f"{f'{low:.3f} to {high:.3f}':>16} {report.num_hvps:>5} {report.seconds:>8.2f}"
        )
        for note in report.notes:
            print(f"{'':>5} note: {note}")


def _with_error(value: float | Tensor, error: float | Tensor) -> str:
    """As many digits as the error leaves, at most six."""
    error = float(error)
    digits = 6 if error <= 0 else min(6, max(0, 1 - math.floor(math.log10(error))))
    return f"{float(value):.{digits}f} +- {error:.1g}"


def main() -> None:
    """Train, print what was measured, save the panels."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="where to write")
    parser.add_argument("--epochs", type=int, default=12, help="number of epochs")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    warnings.filterwarnings("ignore", ".*LeafSpec.*", FutureWarning)

    pl.seed_everything(0)
    hessian = HessianSpectrum(every_n_epochs=2)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=options.epochs,
        callbacks=[hessian],
        logger=TensorBoardLogger(options.out, name=None),
        log_every_n_steps=5,
        enable_model_summary=False,
    )
    start = time.perf_counter()
    trainer.fit(DigitsClassifier(), digits())
    seconds = time.perf_counter() - start

    last = hessian.reports[-1]
    print(f"\n{last.num_parameters:,} parameters, {last.data}, {last.mode} mode")
    print_table(hessian.reports)
    measuring = sum(report.seconds for report in hessian.reports)
    print(f"\n{seconds:.1f} s for the fit, {measuring:.1f} s of them for the measurements")
    figures = {
        "spectrum_at_start": spectrum_figure(hessian.reports[0]),
        "spectrum": spectrum_figure(last),
        "history": history_figure(hessian.reports),
    }
    for name, figure in figures.items():
        figure.savefig(options.out / f"{name}.png")
        print(f"saved {options.out / name}.png")
    tensorboard = os.path.relpath(Path(sys.executable).with_name("tensorboard"))
    print(f"\nopen it:  {tensorboard} --logdir {options.out}")


if __name__ == "__main__":
    logging.getLogger("lightning.pytorch").setLevel(logging.INFO)
    main()
