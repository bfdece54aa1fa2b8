"""The spectrum without a Trainer: a training loop of one's own, by Lightning Fabric.

The parts that the callback puts together: a frozen sample, the loss of one batch, a sandbox that
puts everything back, the loss over the sample, its Hessian, and the measurement of its spectrum.

Run it from the repository: ``python examples/fabric.py --out runs/fabric``.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from pathlib import Path

import torch
from lightning.fabric import Fabric
from lightning.fabric.loggers import TensorBoardLogger
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset, default_collate

from lightning_hessian.data import FrozenBatches, TrainingData, fetch_batches, plan_batches
from lightning_hessian.hvp import open_loss
from lightning_hessian.linalg import measure_spectrum
from lightning_hessian.sandbox import Sandbox

SEED = 0


def digits() -> TensorDataset:
    """The 1,797 images of 8 x 8 pixels that come with scikit-learn."""
    images, labels = load_digits(return_X_y=True)
    return TensorDataset(torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels))


def freeze(network: nn.Module, dataset: TensorDataset, num_samples: int) -> FrozenBatches:
    """Draw the sample once, so that all measurements are of the same function."""
    data = TrainingData(dataset, range(len(dataset)), 256, default_collate, "the digits")
    plan = plan_batches(data, num_samples=num_samples, batch_size=None, seed=SEED)
    with Sandbox(network, mode="eval", seed=SEED, dtype=torch.float32, foreign=[dataset]) as box:
        return fetch_batches(plan, reset=box.reset, reseed=box.reseed)


def measure(fabric: Fabric, network: nn.Module, frozen: FrozenBatches, step: int) -> None:
    """Print and log the spectrum at the present weights; the training is left as it was."""

    def batch_loss(batch: list[Tensor], index: int) -> Tensor:
        images, labels = fabric.to_device(batch)
        return F.cross_entropy(network(images), labels)

    # the network itself, not what Fabric wraps around it: the wrapper adds autocast
    with open_loss(network, batch_loss, frozen, seed=SEED) as loss:
        gradient = loss.gradient()
        generator = torch.Generator().manual_seed(SEED)
        spectrum = measure_spectrum(loss.products, generator=generator)
    largest, smallest, trace = spectrum.largest, spectrum.smallest, spectrum.trace
    low, high = spectrum.negative_mass.bracket
    print(
        f"{step:>5} {gradient.loss:>8.4f} {largest.values[0]:>9.3f} +- "
        f"{largest.residual_bounds[0]:<8.1g} {smallest.values[0]:>9.3f} +- "
        f"{smallest.residual_bounds[0]:<8.1g} {trace.value:>9.2f} +- {trace.standard_error:<5.2g} "
        f"{low:>6.3f} to {high:.3f} {spectrum.num_hvps:>6}"
    )
    names = {f"hessian/eig_{k}": float(v) for k, v in enumerate(largest.values, start=1)}
    fabric.log_dict({**names, "hessian/trace": trace.value}, step=step)


def main() -> None:
    """Train by hand, measuring after each epoch."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/fabric"), help="where to log")
    parser.add_argument("--epochs", type=int, default=5, help="number of epochs")
    parser.add_argument("--samples", type=int, default=1024, help="in the frozen sample")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    warnings.filterwarnings("ignore", ".*LeafSpec.*", FutureWarning)

    fabric = Fabric(
        accelerator="cpu", devices=1, loggers=TensorBoardLogger(options.out, name="", version="")
    )
    fabric.launch()
    fabric.seed_everything(SEED)
    dataset = digits()
    network = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
    model, optimizer = fabric.setup(network, torch.optim.Adam(network.parameters(), lr=5e-3))
    loader = fabric.setup_dataloaders(DataLoader(dataset, batch_size=128, shuffle=True))
    frozen = freeze(network, dataset, options.samples)

    print(f"{sum(p.numel() for p in network.parameters()):,} parameters, {frozen.description}\n")
    print(
        f"{'step':>5} {'loss':>8} {'largest eigenvalue':>21} {'smallest eigenvalue':>21} "
        f"{'trace':>18} {'negative share':>15} {'HVPs':>6}"
    )
    step = 0
    measure(fabric, network, frozen, step)
    for _ in range(options.epochs):
        for images, labels in loader:
            optimizer.zero_grad()
            fabric.backward(F.cross_entropy(model(images), labels))
            optimizer.step()
            step += 1
        measure(fabric, network, frozen, step)
    tensorboard = os.path.relpath(Path(sys.executable).with_name("tensorboard"))
    print(f"\nopen it:  {tensorboard} --logdir {options.out}")


if __name__ == "__main__":
    main()
