"""Train a small network on scikit-learn's digits, watch its loss's Hessian and need of data.

Run it from the repository: ``make demo``, or ``python examples/demo.py --out runs/demo``.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
import warnings
from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_hessian import HessianSpectrum, LossDifference
from lightning_hessian.show import history_figure, loss_difference_figure, spectrum_figure


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


def main() -> None:
    """Train, print what was measured, save the panels."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="where to write")
    parser.add_argument("--epochs", type=int, default=12, help="number of epochs")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    warnings.filterwarnings("ignore", ".*LeafSpec.*", FutureWarning)

    pl.seed_everything(0)
    hessian = HessianSpectrum(every_n_epochs=2, max_overhead=None)
    difference = LossDifference(
        num_samples="all", every_n_epochs=2, max_overhead=None, thresholds=[1e-4]
    )
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=options.epochs,
        callbacks=[hessian, difference],
        logger=TensorBoardLogger(options.out, name=None),
        log_every_n_steps=5,
        enable_model_summary=False,
    )
    start = time.perf_counter()
    trainer.fit(DigitsClassifier(), digits())
    seconds = time.perf_counter() - start

    last = hessian.reports[-1]
    print(f"\n{last.num_parameters:,} parameters, {last.data}, {last.mode} mode")
    print(f"\n{hessian.table(hessian.reports)}")
    print(f"\n{difference.table(difference.reports)}")
    for sentence in difference.reports[-1].sentences:
        print(f"\n{sentence}")
    spent = [sum(r.seconds for r in each.reports) for each in (hessian, difference)]
    print(
        f"\n{seconds:.1f} s for the fit, {spent[0]:.1f} s of them for the spectra, "
        f"{spent[1]:.1f} s for the loss differences"
    )
    figures = {
        "spectrum_at_start": spectrum_figure(hessian.reports[0]),
        "spectrum": spectrum_figure(last),
        "history": history_figure(hessian.reports),
        "loss_difference": loss_difference_figure(difference.reports[-1]),
    }
    for name, figure in figures.items():
        figure.savefig(options.out / f"{name}.png")
        print(f"saved {options.out / name}.png")
    tensorboard = os.path.relpath(Path(sys.executable).with_name("tensorboard"))
    print(f"\nopen it:  {tensorboard} --logdir {options.out}")


if __name__ == "__main__":
    logging.getLogger("lightning.pytorch").setLevel(logging.INFO)
    main()
