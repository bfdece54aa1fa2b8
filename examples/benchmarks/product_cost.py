"""What one Hessian-vector product of the block costs, and how many a default report needs.

Run it from the repository: ``python examples/benchmarks/product_cost.py --threads 2``. Times are
medians over repetitions that interleave gradient and block, so that a machine that slows down
slows both; the ratio is what carries over to other machines.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_hessian.batches import FrozenBatch, FrozenBatches
from lightning_hessian.estimators import measure_spectrum
from lightning_hessian.objective import Sandbox, TrainingLoss
from lightning_hessian.operators import HessianOperator
from lightning_hessian.parameters import ParameterSelection
from lightning_hessian.probes import rademacher

BLOCK = 4


class Residual(nn.Module):
    """Two 3 x 3 convolutions around a shortcut, as in He et al. (2016) for CIFAR."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width_in, width, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.stride, self.extra = stride, width - width_in

    def forward(self, x: Tensor) -> Tensor:
        """Body plus the subsampled, zero-padded input."""
        shortcut = F.pad(x[..., :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.extra))
        return F.relu(self.body(x) + shortcut)


def resnet20() -> nn.Module:
    """About 272,000 parameters."""
    layers: list[nn.Module] = [
        nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
    ]  # fmt: skip
    width_in = 16
    for width, first_stride in ((16, 1), (32, 2), (64, 2)):
        for stride in (first_stride, 1, 1):
            layers.append(Residual(width_in, width, stride))
            width_in = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def mlp() -> nn.Module:
    """The demo's network, 3,466 parameters."""
    return nn.Sequential(
        nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10)
    )


def digits_batches() -> FrozenBatches:
    """All digits in three batches of 599."""
    images, labels = load_digits(return_X_y=True)
    inputs, targets = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
    parts = zip(inputs.split(599), targets.split(599), strict=True)
    return FrozenBatches(
        tuple(FrozenBatch(p, len(p[1]), i, len(p[1])) for i, p in enumerate(parts)), 1797, "digits"
    )


def image_batches(count: int) -> FrozenBatches:
    """Random images with labels that depend on them, in one batch."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(count, 3, 32, 32, generator=generator)
    targets = inputs.mean(dim=(1, 2, 3)).argsort().argsort() * 10 // count
    return FrozenBatches(
        (FrozenBatch((inputs, targets), count, 0, count),), count, "synthetic images"
    )


def train(network: nn.Module, batches: FrozenBatches, steps: int) -> None:
    """Leave the initial point, where curvature is not typical."""
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    for step in range(steps):
        inputs, targets = batches.batches[step % len(batches.batches)].data
        optimizer.zero_grad()
        F.cross_entropy(network(inputs), targets).backward()
        optimizer.step()


def seconds(run: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def measure(name: str, network: nn.Module, batches: FrozenBatches, repetitions: int) -> None:
    """Print one line of the table."""

    def batch_loss(batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        return F.cross_entropy(network(batch[0]), batch[1])

    with Sandbox(network, mode="eval", seed=0, dtype=torch.float32) as sandbox:
        loss = TrainingLoss(batch_loss, batches, ParameterSelection.of(network), sandbox)
        generator = torch.Generator().manual_seed(0)
        block = rademacher(loss.size, BLOCK, generator=generator)
        loss.hessian_products(block)
        gradient, single, shared = [], [], []
        for _ in range(repetitions):
            gradient.append(seconds(loss.gradient))
            single.append(seconds(lambda: loss.hessian_products(block[:, :1])))
            shared.append(seconds(lambda: loss.hessian_products(block)))
        unit = statistics.median(gradient)
        start = time.perf_counter()
        spectrum = measure_spectrum(HessianOperator(loss), generator=generator)
        took = time.perf_counter() - start
    print(
        f"{name:<12} {loss.size:>9,} {1000 * unit:>10.1f} "
        f"{statistics.median(single) / unit:>12.2f} "
        f"{statistics.median(shared) / BLOCK / unit:>15.2f} "
        f"{spectrum.num_hvps:>10} {took:>9.1f} {took / unit:>13.0f}",
        flush=True,
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2, help="torch threads")
    parser.add_argument("--repetitions", type=int, default=7, help="of each timing")
    parser.add_argument("--images", type=int, default=128, help="that ResNet-20 sees")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    print(f"float32, {options.threads} threads, median of {options.repetitions}, block of {BLOCK}")
    print(
        f"{'':<12} {'':>9} {'gradient':>10} {'HVP alone':>12} {'HVP in block':>15} "
        f"{'report':>10} {'report':>9} {'report':>13}"
    )
    print(
        f"{'network':<12} {'parameters':>9} {'ms':>9} {'gradients':>12} {'gradients':>15} "
        f"{'HVPs':>10} {'s':>9} {'gradients':>13}"
    )
    for name, network, batches, steps in (
        ("MLP, digits", mlp(), digits_batches(), 300),
        ("ResNet-20", resnet20(), image_batches(options.images), 20),
    ):
        train(network, batches, steps)
        measure(name, network, batches, options.repetitions)


if __name__ == "__main__":
    main()
