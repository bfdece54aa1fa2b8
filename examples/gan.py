"""Two networks trained against each other by hand, each with the spectrum of its own loss.

``Loss(which=0)`` and ``Loss(which=1)`` count the calls of ``manual_backward`` in the step. Each
loss is measured over the parameters of the optimiser that steps on it, both at the same weights. A
solution of such a game need not be a minimum of either loss: watch the negative eigenvalues.

Run it from the repository: ``python examples/gan.py --out runs/gan``.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import warnings
from itertools import pairwise
from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_hessian import HessianSpectrum, Loss

NOISE = 4


def ring(count: int) -> TensorDataset:
    """Eight clusters on a circle, each point with the noise from which a false one is made."""
    generator = torch.Generator().manual_seed(0)
    angles = 2 * math.pi / 8 * torch.randint(8, (count,), generator=generator)
    points = torch.stack([angles.cos(), angles.sin()], dim=1)
    points += 0.05 * torch.randn(count, 2, generator=generator)
    return TensorDataset(points, torch.randn(count, NOISE, generator=generator))


def network(*widths: int) -> nn.Sequential:
    """Linear layers with tanh between them."""
    layers: list[nn.Module] = []
    for width_in, width in pairwise(widths):
        layers += [nn.Linear(width_in, width), nn.Tanh()]
    return nn.Sequential(*layers[:-1])


class Adversaries(pl.LightningModule):
    """Non-saturating losses, optimised by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator = network(NOISE, 24, 24, 2)
        self.discriminator = network(2, 24, 24, 1)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """A step of the generator, then one of the discriminator."""
        points, noise = batch
        of_generator, of_discriminator = self.optimizers()
        fake = self.generator(noise)

        loss = F.softplus(-self.discriminator(fake)).mean()
        of_generator.zero_grad()
        self.manual_backward(loss)
        of_generator.step()

        loss = F.softplus(-self.discriminator(points)) + F.softplus(
            self.discriminator(fake.detach())
        )
        of_discriminator.zero_grad()
        self.manual_backward(loss.mean())
        of_discriminator.step()

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """One for each network."""
        parts = (self.generator, self.discriminator)
        return [torch.optim.Adam(part.parameters(), lr=2e-3, betas=(0.5, 0.99)) for part in parts]


def print_table(name: str, hessian: HessianSpectrum) -> None:
    """One line a measurement."""
    last = hessian.reports[-1]
    print(f"\n{name}: {last.loss_name}, {last.num_parameters:,} parameters")
    print(f"{'step':>6} {'loss':>8} {'largest':>10} {'smallest':>10} {'trace':>9} {'negative':>15}")
    for report in hessian.reports:
        low, high = report.negative_mass.bracket
        print(
            f"{report.global_step:>6} {report.loss:>8.4f} {report.largest.values[0]:>10.4f} "
            f"{report.smallest.values[0]:>10.4f} {report.trace.value:>9.3f} "
            f"{low:>6.2f} to {high:.2f}"
        )


def main() -> None:
    """Train, and print a table for each network."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/gan"), help="where to log")
    parser.add_argument("--epochs", type=int, default=12, help="number of epochs")
    parser.add_argument("--samples", type=int, default=4096, help="size of the training set")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    warnings.filterwarnings("ignore", ".*LeafSpec.*", FutureWarning)

    pl.seed_everything(0)
    names = ("generator", "discriminator")
    spectra = [
        HessianSpectrum(
            name=name,
            num_samples=1024,
            every_n_epochs=3,
            max_overhead=None,
            loss=Loss(which=k, batch_size=1024),
        )
        for k, name in enumerate(names)
    ]
    pl.Trainer(
        accelerator="cpu",
        max_epochs=options.epochs,
        callbacks=list(spectra),
        logger=TensorBoardLogger(options.out, name=None),
        enable_checkpointing=False,
        enable_model_summary=False,
    ).fit(Adversaries(), DataLoader(ring(options.samples), batch_size=128, shuffle=True))
    for name, hessian in zip(names, spectra, strict=True):
        print_table(name, hessian)
    tensorboard = os.path.relpath(Path(sys.executable).with_name("tensorboard"))
    print(f"\nopen it:  {tensorboard} --logdir {options.out}")


if __name__ == "__main__":
    main()
