"""How well random matrices fit the Hessian of a network, at its start and at a minimum.

Pennington and Bahri's task, to memorise random targets, by a network with one hidden layer, and a
classifier of digits: the Hessian's Gauss-Newton and residual parts, and random matrices laid over
its spectrum, with their distances.

    python -m examples.random_matrices --out pictures
"""

from __future__ import annotations

import argparse
import logging
import time
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_hessian.hvp import open_loss
from lightning_hessian.records import GaussNewtonSplit, RandomMatrixComparison
from lightning_hessian.show import random_matrix_figure, spin_glass_figure
from lightning_hessian.studies import compare_random_matrices, gauss_newton_split

WIDTH = 12
HEADER = (
    "| network | at | loss | phi nominal, effective | norm of H1 / H | below zero | free sum | q |"
    " W1/sd free, nominal, effective |\n|---|---|---|---|---|---|---|---|---|"
)


class Network(pl.LightningModule):
    """A network with one hidden layer, in float64, trained with all data in each batch."""

    def __init__(self, layers: nn.Sequential, criterion: Any) -> None:
        super().__init__()
        self.layers = layers.double()
        self.criterion = criterion

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        """The mean loss."""
        inputs, targets = batch
        return self.criterion(self.layers(inputs), targets)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Newton-like steps, which reach a minimum."""
        return torch.optim.LBFGS(
            self.parameters(), max_iter=20, history_size=30, line_search_fn="strong_wolfe"
        )


def memorising(activation: type[nn.Module]) -> tuple[Network, TensorDataset]:
    """Twice as many targets as half of the parameters can hold: ``phi = 2 n / m = 1/2``."""
    size, count = WIDTH, 4 * WIDTH
    generator = torch.Generator().manual_seed(0)
    draws = [torch.randn(count, size, generator=generator, dtype=torch.float64) for _ in range(2)]
    layers = nn.Sequential(
        nn.Linear(size, size, bias=False), activation(), nn.Linear(size, size, bias=False)
    )
    return Network(layers, F.mse_loss), TensorDataset(*draws)


def classifying() -> tuple[Network, TensorDataset]:
    """400 digits, 1,210 parameters."""
    images, labels = load_digits(return_X_y=True)
    inputs = torch.tensor(images[:400] / 8 - 1, dtype=torch.float64)
    layers = nn.Sequential(nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10))
    return Network(layers, F.cross_entropy), TensorDataset(inputs, torch.tensor(labels[:400]))


def measure(network: Network, data: TensorDataset, num_steps: int) -> GaussNewtonSplit:
    """Of the present weights."""
    batches = list(DataLoader(data, batch_size=len(data)))
    with open_loss(network, network.training_step, batches, dtype=torch.float64) as loss:
        return gauss_newton_split(
            loss, num_steps=num_steps, generator=torch.Generator().manual_seed(0)
        )


def train(network: Network, data: TensorDataset, epochs: int) -> None:
    """Towards a minimum."""
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(network, DataLoader(data, batch_size=len(data)))


def row(name: str, moment: str, split: GaussNewtonSplit, found: RandomMatrixComparison) -> str:
    """A line of the table."""
    mass, free = split.hessian.negative_mass, found.free
    by_choice = {model.choice: model for model in found.models if model.law == "Wishart + Wigner"}
    ratios, distances = [], [f"{free.wasserstein:.3f}"]
    for choice in ("nominal", "effective"):
        model = by_choice.get(choice)
        ratios.append("-" if model is None else f"{model.ratio:.2f}")
        distances.append("-" if model is None else f"{model.wasserstein:.3f}")
    cells = [
        name,
        moment,
        f"{split.loss:.3g}",
        ", ".join(ratios),
        f"{split.residual_share.value:.2g}",
        f"{mass.fraction:.3f} ({mass.bracket[0]:.3f} to {mass.bracket[1]:.3f})",
        f"{free.share.value:.3f}",
        f"{free.alignment:.2f}",
        ", ".join(distances),
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Measure each network twice, print a table, save the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("random_matrices"))
    parser.add_argument("--epochs", type=int, default=150, help="of 20 steps of L-BFGS each")
    parser.add_argument("--steps", type=int, default=72, help="of each sweep, for each of 4 probes")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    warnings.filterwarnings("ignore", module="lightning")
    torch.manual_seed(0)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    problems = {
        "tanh": memorising(nn.Tanh),
        "relu": memorising(nn.ReLU),
        "digits": classifying(),
    }
    rows, start = [HEADER], time.perf_counter()
    for name, (network, data) in problems.items():
        for moment in ("start", "end"):
            if moment == "end":
                # cross-entropy has its minimum at infinity: some way down
                is_bounded = network.criterion is F.mse_loss
                train(network, data, options.epochs if is_bounded else 1)
            split = measure(network, data, options.steps)
            found = compare_random_matrices(split, refined=name == "relu")
            random_matrix_figure(split, found).savefig(options.out / f"{name}_{moment}.png")
            rows.append(row(name, moment, split, found))
            print(name, moment, found.free, *found.models, sep="\n  ", flush=True)
    spin_glass_figure().savefig(options.out / "spin_glass.png")
    print("\n".join(rows))
    print(f"{time.perf_counter() - start:.0f} s; pictures in {options.out}")


if __name__ == "__main__":
    main()
