"""Many networks of one width, trained side by side."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from examples.data import images_and_labels
from examples.demo import digits

BATCH_SIZE = 100
NUM_CLASSES = 10


@dataclass(frozen=True)
class Images:
    """What is trained on, and what is held out: ``(N, pixels)`` from 0 to 1, ``(N,)`` labels."""

    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]

    @classmethod
    def read(cls, path: str | None, num_train: int) -> Images:
        """Of scikit-learn's digits, or the files of MNIST shrunk to 10 x 10 as in the paper."""
        images, labels = digits().dataset[:] if path is None else _shrunk(path, "train")
        # in the order of the file the last digits are of other writers
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
        kept, left = order[:num_train], order[num_train:]
        held_out = (images[left], labels[left]) if path is None else _shrunk(path, "t10k")
        return cls((images[kept], labels[kept]), held_out)


def _shrunk(path: str, part: str) -> tuple[Tensor, Tensor]:
    images, labels = images_and_labels(path, part)
    return F.adaptive_avg_pool2d(images, 10).flatten(1), labels


@dataclass(frozen=True)
class Networks:
    """``S`` networks with one hidden layer of rectifiers, of one width ``n``.

    Attributes:
        parameters: ``(S, n, pixels)``, ``(S, n)``, ``(S, 10, n)`` and ``(S, 10)``, as in two
            linear layers.
    """

    parameters: tuple[Tensor, ...]

    @classmethod
    def drawn(cls, count: int, width: int, pixels: int, generator: torch.Generator) -> Networks:
        """As PyTorch initialises linear layers: uniform up to one over the root of the inputs."""

        def uniform(*shape: int, inputs: int) -> Tensor:
            values = torch.rand(count, *shape, generator=generator)
            return ((2 * values - 1) / math.sqrt(inputs)).requires_grad_()

        return cls(
            (
                uniform(width, pixels, inputs=pixels),
                uniform(width, inputs=pixels),
                uniform(NUM_CLASSES, width, inputs=width),
                uniform(NUM_CLASSES, inputs=width),
            )
        )

    def losses(self, images: Tensor, labels: Tensor) -> Tensor:
        """``(S,)`` mean cross-entropies.

        Args:
            images: ``(S, N, pixels)``, or ``(1, N, pixels)`` for all of them.
            labels: ``(S, N)`` or ``(1, N)``.
        """
        first, bias, second, last = self.parameters
        count = len(first)
        inputs = images.expand(count, -1, -1)
        hidden = torch.baddbmm(bias[:, None], inputs, first.mT).relu()
        scores = torch.baddbmm(last[:, None], hidden, second.mT)
        each = F.cross_entropy(
            scores.flatten(0, 1), labels.expand(count, -1).flatten(), reduction="none"
        )
        return each.view(count, -1).mean(dim=1)

    def module(self, index: int) -> nn.Sequential:
        """One of them."""
        first, bias, second, last = (p[index].detach() for p in self.parameters)
        network = nn.Sequential(
            nn.Linear(first.shape[1], len(first)), nn.ReLU(), nn.Linear(len(first), len(last))
        )
        with torch.no_grad():
            for parameter, value in zip(
                network.parameters(), (first, bias, second, last), strict=True
            ):
                parameter.copy_(value)
        return network


def train(
    data: tuple[Tensor, Tensor], *, width: int, count: int, epochs: int, rate: float, seed: int
) -> Networks:
    """Train them by SGD whose learning rate falls linearly to zero, each in its own order.

    Side by side, as one batched product: no network's steps depend on another's.
    """
    images, labels = data
    generator = torch.Generator().manual_seed(seed)
    networks = Networks.drawn(count, width, images.shape[1], generator)
    optimizer = torch.optim.SGD(networks.parameters, lr=rate)
    num_batches = math.ceil(len(labels) / BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, epochs * num_batches)
    for _ in range(epochs):
        orders = torch.rand(count, len(labels), generator=generator).argsort(dim=1)
        for rows in orders.split(BATCH_SIZE, dim=1):
            optimizer.zero_grad()
            chosen = rows.flatten()  # several times faster than by an index of two dimensions
            batch = images.index_select(0, chosen).view(count, -1, images.shape[1])
            networks.losses(batch, labels[rows]).sum().backward()
            optimizer.step()
            schedule.step()
    return networks
