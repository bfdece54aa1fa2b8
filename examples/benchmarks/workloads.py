"""Four losses to measure, each a short training from a seed; the same on every machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from examples.benchmarks.networks import mlp, resnet20
from examples.networks import SmallGpt

TEXT = Path(__file__).parents[2] / "LICENSE"
CONTEXT = 64


class CrossEntropy(nn.CrossEntropyLoss):
    """Mean over samples and, for sequences, over places; scores ``(..., classes)``."""

    def forward(self, scores: Tensor, targets: Tensor) -> Tensor:
        """One number."""
        return super().forward(scores.flatten(0, -2), targets.flatten())


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A trained network, and the batches whose mean loss is measured.

    Attributes:
        name: ``W1`` to ``W4``.
        title: What it is.
        network: Trained, in eval mode, float32.
        batches: Pairs of inputs and targets, of equal size, so that who averages batches without
            weights has the mean over samples too.
        criterion: Loss of the network's scores.
    """

    name: str
    title: str
    network: nn.Module
    batches: tuple[tuple[Tensor, Tensor], ...]
    criterion: CrossEntropy

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All of the network's."""
        return list(self.network.parameters())

    @property
    def num_parameters(self) -> int:
        """Scalars among the parameters."""
        return sum(p.numel() for p in self.parameters)

    @property
    def num_samples(self) -> int:
        """Over all batches."""
        return sum(len(targets) for _, targets in self.batches)

    @property
    def joined(self) -> tuple[Tensor, Tensor]:
        """All batches as one."""
        inputs, targets = zip(*self.batches, strict=True)
        return torch.cat(inputs), torch.cat(targets)


def build(name: str) -> Workload:
    """Make the data, train, and freeze; touches no global generator.

    Args:
        name: ``W1`` to ``W4``.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return BUILDERS[name]()


def _digits_mlp() -> Workload:
    """All digits in three batches of 599."""
    pixels, labels = load_digits(return_X_y=True)
    data = torch.tensor(pixels / 16, dtype=torch.float32), torch.tensor(labels)
    network = mlp(64, 32, 32, 10)
    _train(network, data, steps=300, batch_size=64, rate=2e-3)
    return _workload("W1", "MLP 64-32-32-10, digits", network, data, 599)


def _images_mlp() -> Workload:
    """Digits enlarged to 28 x 28 pixels, shifted, with noise, one label in twenty at random."""
    pixels, labels = load_digits(return_X_y=True)
    chosen = torch.randint(len(labels), (10_240,))
    small = torch.tensor(pixels / 16, dtype=torch.float32).view(-1, 1, 8, 8)
    large = F.interpolate(small, size=24, mode="bilinear")[chosen]
    images = torch.zeros(len(chosen), 28, 28)
    for row in range(5):
        for column in range(5):
            here = torch.arange(len(chosen)) % 25 == 5 * row + column
            images[here, row : row + 24, column : column + 24] = large[here, 0]
    images += 0.1 * torch.randn(images.shape)
    wrong = torch.rand(len(chosen)) < 0.05
    targets = torch.where(wrong, torch.randint(10, (len(chosen),)), torch.tensor(labels)[chosen])
    network, data = mlp(784, 256, 128, 10), (images.flatten(1), targets)
    _train(network, data, steps=100, batch_size=512, rate=1e-3)
    return _workload("W2", "MLP 784-256-128-10, 28 x 28 images", network, data, 512)


def _resnet() -> Workload:
    """Smooth patterns, one for each class, under noise, one label in ten at random.

    Trained on 512 images, measured on 128 of them.
    """
    classes = torch.arange(512) % 10
    patterns = F.interpolate(torch.randn(10, 3, 4, 4), size=32, mode="bicubic")
    images = 0.2 * patterns[classes] + torch.randn(512, 3, 32, 32)
    targets = torch.where(torch.rand(512) < 0.1, torch.randint(10, (512,)), classes)
    network, data = resnet20(), (images, targets)
    _train(network, data, steps=40, batch_size=128, rate=2e-3)
    return _workload(
        "W3", "ResNet-20, BatchNorm in eval mode", network, (images[:128], targets[:128]), 128
    )


def _gpt() -> Workload:
    """Bytes of a licence; 64 pieces are measured, in two batches."""
    text = torch.from_numpy(np.minimum(np.frombuffer(TEXT.read_bytes(), np.uint8), 127)).long()
    pieces = text.unfold(0, CONTEXT + 1, 1)
    starts = torch.randperm(len(pieces))
    network = SmallGpt(context=CONTEXT, width=128, depth=4, heads=4)
    data = pieces[starts, :-1], pieces[starts, 1:]
    _train(network, data, steps=60, batch_size=32, rate=1e-3)
    return _workload(
        "W4", "GPT 4 x 128, bytes of a text", network, (data[0][:64], data[1][:64]), 32
    )


BUILDERS: dict[str, Callable[[], Workload]] = {
    "W1": _digits_mlp,
    "W2": _images_mlp,
    "W3": _resnet,
    "W4": _gpt,
}


def _train(
    network: nn.Module, data: tuple[Tensor, Tensor], *, steps: int, batch_size: int, rate: float
) -> None:
    """Leave the initial point, where curvature is not typical."""
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    criterion = CrossEntropy()
    inputs, targets = (part.split(batch_size) for part in data)
    whole = len(data[1]) // batch_size
    for step in range(steps):
        optimizer.zero_grad()
        criterion(network(inputs[step % whole]), targets[step % whole]).backward()
        optimizer.step()
    optimizer.zero_grad()


def _workload(
    name: str, title: str, network: nn.Module, data: tuple[Tensor, Tensor], batch_size: int
) -> Workload:
    batches = zip(*(part.split(batch_size) for part in data), strict=True)
    return Workload(
        name=name,
        title=title,
        network=network.eval(),
        batches=tuple(batches),
        criterion=CrossEntropy(),
    )
