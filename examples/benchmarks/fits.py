"""Ordinary trainings, as a user would write them, to measure the callbacks in."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from examples.benchmarks.networks import resnet20
from examples.demo import DigitsClassifier
from examples.networks import SmallGpt

TEXT = Path(__file__).parents[2] / "LICENSE"
CONTEXT = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A training to repeat from a seed.

    Attributes:
        name: Of the training.
        module: Makes the module.
        data: Makes the training set from the folder of the data.
        batch_size: Samples in a step.
        epochs: Of the whole training.
        needs_folder: Whether the data is in files.
    """

    name: str
    module: Callable[[], pl.LightningModule]
    data: Callable[[Path | None], Dataset[tuple[Tensor, ...]]]
    batch_size: int
    epochs: int
    needs_folder: bool = True

    def loader(self, folder: Path | None) -> DataLoader[tuple[Tensor, ...]]:
        """The training set in shuffled batches."""
        return DataLoader(self.data(folder), batch_size=self.batch_size, shuffle=True)


class Mlp(DigitsClassifier):
    """784-18-32-10: 15,068 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.Flatten(),
            nn.Linear(784, 18),
            nn.ReLU(),
            nn.Linear(18, 32),
            nn.ReLU(),
            nn.Linear(32, 10),
        )


class Cnn(DigitsClassifier):
    """Two convolutions and a hidden layer: 20,490 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(784, 24),
            nn.ReLU(),
            nn.Linear(24, 10),
        )


class ResNet(DigitsClassifier):
    """ResNet-20 for images of 32 x 32 pixels, by SGD with momentum."""

    def __init__(self) -> None:
        super().__init__()
        self.network = resnet20()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """As in the paper that has it."""
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)


def _digits(_: Path | None) -> TensorDataset:
    images, labels = load_digits(return_X_y=True)
    return TensorDataset(torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels))


def _fashion(count: int) -> Callable[[Path | None], TensorDataset]:
    def read(folder: Path | None) -> TensorDataset:
        assert folder is not None
        images, labels = (
            np.frombuffer(
                gzip.decompress((folder / "fashion_mnist" / name).read_bytes()),
                np.uint8,
                offset=skip,
            )
            for name, skip in (
                ("train-images-idx3-ubyte.gz", 16),
                ("train-labels-idx1-ubyte.gz", 8),
            )
        )
        pixels = torch.tensor(images.reshape(-1, 1, 28, 28)[:count]).float() / 255
        return TensorDataset(pixels, torch.tensor(labels[:count]).long())

    return read


def _cifar(folder: Path | None) -> TensorDataset:
    assert folder is not None
    file = np.load(folder / "cifar10" / "cifar10_lossless_5k.npz")
    images, labels = (
        np.concatenate([file[f"{kind}_train"], file[f"{kind}_test"]]) for kind in ("x", "y")
    )
    pixels = torch.tensor(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    return TensorDataset(pixels.contiguous(), torch.tensor(labels).long())


def _text(_: Path | None) -> TensorDataset:
    symbols = torch.tensor(list(TEXT.read_bytes())).clamp_max(127)
    generator = torch.Generator().manual_seed(0)
    starts = torch.randint(len(symbols) - CONTEXT - 1, (1_000,), generator=generator)
    return TensorDataset(torch.stack([symbols[s : s + CONTEXT + 1] for s in starts.tolist()]))


FITS = (
    Fit(
        name="digits",
        module=DigitsClassifier,
        data=_digits,
        batch_size=32,
        epochs=12,
        needs_folder=False,
    ),
    Fit(name="MLP", module=Mlp, data=_fashion(8_000), batch_size=64, epochs=12),
    Fit(name="MLP, long", module=Mlp, data=_fashion(8_000), batch_size=64, epochs=125),
    Fit(name="CNN", module=Cnn, data=_fashion(12_000), batch_size=64, epochs=8),
    Fit(name="ResNet-20", module=ResNet, data=_cifar, batch_size=64, epochs=2),
    Fit(
        name="GPT",
        module=lambda: SmallGpt(context=CONTEXT, width=128, depth=5, heads=4),
        data=_text,
        batch_size=32,
        epochs=8,
        needs_folder=False,
    ),
)
