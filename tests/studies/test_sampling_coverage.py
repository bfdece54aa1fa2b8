"""Intervals from random subsets of real images, whose Hessians are all known one by one."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.func import functional_call, hessian, vmap
from torch.nn import functional as F

from lightning_hessian.hvp import per_batch_products
from lightning_hessian.linalg import rademacher
from lightning_hessian.studies import refined_interval, sampling_error
from tests.helpers.dense_samples import DenseSamples

REPETITIONS = 100
NUM_DIRECTIONS = 6


def trained(network: nn.Module, images: Tensor, labels: Tensor) -> nn.Module:
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for step in range(300):
        chosen = torch.arange(64 * step, 64 * step + 64) % len(labels)
        optimizer.zero_grad()
        F.cross_entropy(network(images[chosen]), labels[chosen]).backward()
        optimizer.step()
    return network


@cache
def single_hessians(hidden: int, classes: int, count: int) -> Tensor:
    """``(M, n, n)`` of a trained perceptron on images of 4 x 4 pixels; no layer within when 0."""
    data = load_digits()
    wanted = data.target < classes
    images = torch.tensor(data.images[wanted][:count] / 16)
    inputs, labels = F.avg_pool2d(images[:, None], 2).flatten(1), torch.tensor(data.target[wanted])
    labels = labels[:count]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Linear(16, hidden), nn.Tanh()] if hidden else []
        network = nn.Sequential(*layers, nn.Linear(hidden or 16, classes)).double()
    trained(network, inputs, labels)
    shapes = {name: p.shape for name, p in network.named_parameters()}
    sizes = [shape.numel() for shape in shapes.values()]
    weights = nn.utils.parameters_to_vector(network.parameters()).detach()

    def loss(flat: Tensor, image: Tensor, label: Tensor) -> Tensor:
        pieces = zip(shapes.items(), flat.split(sizes), strict=True)
        own = {name: piece.view(shape) for (name, shape), piece in pieces}
        return F.cross_entropy(functional_call(network, own, (image[None],)), label[None])

    single = vmap(hessian(loss), (None, 0, 0))
    parts = zip(inputs.split(100), labels.split(100), strict=True)
    return torch.cat([single(weights, *part) for part in parts])


# torch.func's forward mode
@pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")
@pytest.mark.slow
# the first has two largest eigenvalues 5 % apart, the second well separated ones
@pytest.mark.parametrize(
    ("hidden", "classes", "count", "part"),
    [(0, 3, 537, 16), (0, 3, 537, 4), (6, 10, 800, 8), (6, 10, 800, 2)],
    ids=["softmax, 33", "softmax, 134", "perceptron, 100", "perceptron, 400"],
)
def test_intervals_of_95_percent_cover_the_population(
    hidden: int, classes: int, count: int, part: int
) -> None:
    hessians = single_hessians(hidden, classes, count)
    truth = torch.linalg.eigvalsh(hessians.mean(dim=0))
    generator = torch.Generator().manual_seed(part)
    held = dict.fromkeys(("interval", "refined", "trace", "density"), 0)
    for _ in range(REPETITIONS):
        loss = drawn(hessians, count // part, generator)
        values, vectors = torch.linalg.eigh(loss.mean)
        vectors = vectors[:, -NUM_DIRECTIONS:].flip(1)
        probes = rademacher(loss.size, 8, generator=generator, dtype=torch.float64)
        probes -= vectors @ (vectors.T @ probes)
        above = float(values[-NUM_DIRECTIONS - 1])
        found = sampling_error(
            loss,
            vectors,
            num_largest=NUM_DIRECTIONS,
            rest=(float(values[0]), above),
            probes=per_batch_products(loss, probes)[1].along,
            population=count,
        )
        held["interval"] += found.largest_interval[0] <= truth[-1] <= found.largest_interval[1]
        away = abs(float(values.sum() - truth.sum()))
        held["trace"] += away <= 2.05 * found.trace_error  # 30 batches
        held["density"] += float((values - truth).abs().mean()) <= found.density_distance
        more = drawn(hessians, count // 2, generator)
        low, high = refined_interval(more, vectors, above=above, population=count)
        held["refined"] += low <= float(truth[-1]) <= high
    # of 100 draws 90 or more are covered in 99 % of cases at exactly 95 %
    assert all(number >= 90 for number in held.values()), held


def drawn(hessians: Tensor, count: int, generator: torch.Generator) -> Any:
    order = torch.randperm(len(hessians), generator=generator)[:count]
    return DenseSamples.dealt(hessians, order, 30)
