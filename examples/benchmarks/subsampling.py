"""The spectrum over a whole training set from a part of it: what it costs, and whether it is so.

A perceptron of 784-256-128-10, trained by one epoch of Adam, is measured as follows.

1. A Krylov sweep and a few probes of the trace over ``--samples`` random images: trace, density and
   the directions of largest curvature, with what single batches tell about all images.
2. One product with these directions over ``--refined`` images drawn anew: a bracket of the largest
   eigenvalue over all of them (``refined_interval``).

Both are done ``--repetitions`` times with other images, and set beside a long sweep over all. The
cost is counted in samples times Hessian-vector products, which is what a machine has to do; that of
PyHessian is over all images at the settings given, or what it really takes with ``--peer``.

Run it from the repository: ``python -m examples.benchmarks.subsampling --data FOLDER``, with a
folder as in ``examples/data.py``; without, on the digits of scikit-learn, enlarged.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional as F

from examples.data import images_and_labels
from lightning_hessian.data import FrozenBatch, FrozenBatches
from lightning_hessian.hvp import PerBatchOperator, open_loss
from lightning_hessian.linalg import (
    KrylovSpace,
    RitzPairs,
    SymmetricOperator,
    block_lanczos,
    estimate_trace,
    rademacher,
    spectral_density,
)
from lightning_hessian.loss import TrainingLoss
from lightning_hessian.records import SamplingError, SpectralDensity, TraceEstimate
from lightning_hessian.studies import refined_interval, sampling_error

BLOCK = 2
PEER_PRODUCTS = {"eigenvalue": 10, "trace": 20, "density": 40}
"""Of PyHessian over all images: what its defaults take on MNIST, and 40 steps instead of 100."""


@dataclass(frozen=True)
class Options:
    """How a subset is measured."""

    samples: int
    refined: int
    dimension: int
    probes: int
    directions: int
    batches: int


@dataclass(frozen=True)
class Measured:
    """What a sweep found."""

    space: KrylovSpace
    ritz: RitzPairs
    trace: TraceEstimate
    density: SpectralDensity


@dataclass(frozen=True)
class Answer:
    """What one subset tells about all images."""

    found: Measured
    error: SamplingError
    interval: tuple[float, float]
    cost: float
    seconds: float


class Images:
    """A trained network and its training set."""

    def __init__(self, path: str | None) -> None:
        self.images, self.labels = images_and_labels(path, "train")
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.network = nn.Sequential(
                nn.Flatten(),
                nn.Linear(784, 256),
                nn.ReLU(),
                nn.Linear(256, 128),
                nn.ReLU(),
                nn.Linear(128, 10),
            )
            self._train()

    def __len__(self) -> int:
        return len(self.labels)

    def loss_of(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        """Cross-entropy."""
        return F.cross_entropy(self.network(batch[0]), batch[1])

    @contextmanager
    def loss(self, chosen: Tensor, num_batches: int) -> Iterator[TrainingLoss]:
        """Over some of the images, in their order, in batches as equal as can be."""
        parts = chosen.tensor_split(num_batches)
        frozen = [
            FrozenBatch((self.images[part], self.labels[part]), len(part), i, len(part))
            for i, part in enumerate(parts)
        ]
        batches = FrozenBatches(tuple(frozen), len(chosen), "images", are_drawn=True)
        with open_loss(self.network, self.loss_of, batches) as loss:
            yield loss

    def _train(self) -> None:
        optimizer = torch.optim.Adam(self.network.parameters(), lr=1e-3)
        for chosen in torch.randperm(len(self)).split(128):
            optimizer.zero_grad()
            self.loss_of((self.images[chosen], self.labels[chosen]), 0).backward()
            optimizer.step()


def sweep(operator: SymmetricOperator, dimension: int, generator: torch.Generator) -> KrylovSpace:
    """A Krylov space of so many dimensions, from random signs."""
    signs = rademacher(operator.size, BLOCK, generator=generator)
    return block_lanczos(
        operator, signs, max_dimension=dimension, generator=generator, should_stop=lambda _: False
    )


def measured(
    operator: SymmetricOperator, space: KrylovSpace, probes: int, generator: torch.Generator
) -> Measured:
    """All that a space and some fresh probes tell."""
    trace = estimate_trace(
        operator, rtol=1e-9, max_num_probes=probes, generator=generator, space=space
    )
    ritz = RitzPairs.of(space)
    return Measured(space, ritz, trace, spectral_density(space, ritz))


def truth(data: Images, dimension: int, probes: int) -> Measured:
    """Over all images, by many products."""
    generator = torch.Generator().manual_seed(0)
    with data.loss(torch.arange(len(data)), max(3, len(data) // 1000)) as loss:
        space = sweep(loss.products, dimension, generator)
        return measured(loss.products, space, probes, generator)


def from_a_part(data: Images, options: Options, seed: int) -> Answer:
    """Measure one random subset, and bracket the largest eigenvalue by another."""
    generator = torch.Generator().manual_seed(1000 + seed)
    start, count = time.perf_counter(), options.directions
    few = torch.randperm(len(data), generator=generator)[: options.samples]
    with data.loss(few, options.batches) as loss:
        operator = PerBatchOperator(loss)
        space = sweep(operator, options.dimension, generator)
        swept = operator.take()
        found = measured(operator, space, options.probes, generator)
        coordinates = found.ritz.vectors[:, -count:].flip(1)
        directions = torch.linalg.qr(space.basis.T @ coordinates.float())[0]
        above = float((found.ritz.values + found.ritz.bounds)[-count - 1])
        error = sampling_error(
            loss,
            directions,
            num_largest=count,
            rest=(float(found.ritz.values[0]), above),
            known=swept,
            probes=operator.take(),
            population=len(data),
        )
    interval = error.largest_interval
    if options.refined:
        more = torch.randperm(len(data), generator=generator)[: options.refined]
        with data.loss(more, max(options.batches, len(more) // 1000)) as loss:
            interval = refined_interval(loss, directions, above=above, population=len(data))
    products = space.dimension + options.probes + count
    cost = products * options.samples + count * options.refined
    return Answer(found, error, interval, cost, time.perf_counter() - start)


def distance(one: SpectralDensity, other: SpectralDensity) -> float:
    """Wasserstein-1, in eigenvalue units."""
    return float(stats.wasserstein_distance(one.nodes, other.nodes, one.weights, other.weights))


def report(answers: list[Answer], whole: Measured, peer: tuple[float, float | None]) -> None:
    """Print what was found against what is true."""
    top, trace = float(whole.ritz.values[-1]), whole.trace.value
    spread = float(whole.ritz.values[-1] - whole.ritz.values[0])
    print(f"all images: lambda_1 {top:.4g} (bound {float(whole.ritz.bounds[-1]):.1g}), ", end="")
    print(f"trace {trace:.4g} (standard error {whole.trace.standard_error / trace:.1%})")
    held = {"in-sample interval": 0, "interval": 0, "trace": 0, "density": 0}
    columns: dict[str, list[float]] = {}

    def add(name: str, value: float) -> None:
        columns.setdefault(name, []).append(value)

    for answer in answers:
        low, high = answer.interval
        error, found = answer.error, answer.found
        both = (error.trace_error**2 + found.trace.standard_error**2) ** 0.5
        away = distance(found.density, whole.density)
        held["interval"] += low <= top <= high
        held["in-sample interval"] += error.largest_interval[0] <= top <= error.largest_interval[1]
        held["trace"] += abs(found.trace.value - trace) <= stats.t.ppf(0.975, 7) * both
        held["density"] += away <= error.density_distance
        add("lambda_1 of the part / of all - 1", float(found.ritz.values[-1]) / top - 1)
        add("its bias as estimated", float(error.eigenvalue_biases[0]) / top)
        add("its standard error as estimated", float(error.eigenvalue_errors[0]) / top)
        add("in-sample interval, half of it", error.largest_margin / top)
        add("interval, middle / of all - 1", (low + high) / 2 / top - 1)
        add("interval, half of it", (high - low) / 2 / top)
        add("trace of the part / of all - 1", found.trace.value / trace - 1)
        add("its sampling error as estimated", error.trace_error / trace)
        add("its probes' error as estimated", found.trace.standard_error / trace)
        add("density's Wasserstein-1 / spread", away / spread)
        add("its bound / spread", error.density_distance / spread)
        add("seconds", answer.seconds)
    print(f"{'':<36} {'mean':>9} {'deviation':>10} {'largest':>9}")
    for name, values in columns.items():
        deviation = statistics.stdev(values) if len(values) > 1 else 0.0
        largest = max(values, key=abs)
        print(f"{name:<36} {statistics.fmean(values):>9.3g} {deviation:>10.2g} {largest:>9.3g}")
    for name, number in held.items():
        print(f"{name} holds the truth in {number} of {len(answers)}")
    cost = statistics.fmean(answer.cost for answer in answers)
    print(f"samples x products {cost:,.0f}; PyHessian {peer[0]:,.0f}: {peer[0] / cost:.0f} times")
    if peer[1] is not None:
        took = statistics.median(answer.seconds for answer in answers)
        print(f"seconds {took:.2f}; PyHessian {peer[1]:.0f}: {peer[1] / took:.0f} times")


def by_pyhessian(data: Images) -> tuple[float, float]:
    """Its samples times products for all three quantities at its defaults, and its seconds."""
    from pyhessian import hessian  # an optional peer

    parts = torch.arange(len(data)).split(1000)
    batches = [(data.images[part], data.labels[part]) for part in parts]
    measurement = hessian(data.network, F.cross_entropy, dataloader=batches, cuda=False)
    product, count = measurement.dataloader_hv_product, [0]

    def counted(vector: list[Tensor]) -> object:
        count[0] += 1
        return product(vector)

    measurement.dataloader_hv_product = counted
    start = time.perf_counter()
    values, _ = measurement.eigenvalues()
    spent = {"eigenvalue": count[0]}
    probes = measurement.trace()
    spent["trace"] = count[0] - sum(spent.values())
    # what it calls is gone from torch; the tridiagonal matrix is symmetric
    torch.eig = lambda matrix, eigenvectors: _as_it_was(matrix)
    measurement.density()
    spent["density"] = count[0] - sum(spent.values())
    seconds = time.perf_counter() - start
    print(f"PyHessian: lambda_1 {values[0]:.4g}, trace {statistics.fmean(probes):.4g}, ", end="")
    print(f"products {spent}, {seconds:.0f} s")
    return float(count[0] * len(data)), seconds


def _as_it_was(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues with their imaginary parts beside them, and vectors."""
    values, vectors = torch.linalg.eigh(matrix)
    return torch.stack([values, torch.zeros_like(values)], dim=1), vectors


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="folder with the files of MNIST")
    parser.add_argument("--samples", type=int, default=1600, help="of the sweep")
    parser.add_argument("--refined", type=int, default=20_000, help="of the bracket; 0 for none")
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dimension", type=int, default=20, help="of a part's Krylov space")
    parser.add_argument("--probes", type=int, default=10, help="of a part's trace")
    parser.add_argument("--directions", type=int, default=3, help="in the bracket")
    parser.add_argument("--batches", type=int, default=32, help="that a part is dealt into")
    parser.add_argument("--truth", type=int, nargs=2, default=(50, 24), help="products over all")
    parser.add_argument("--peer", action="store_true", help="run PyHessian over all images too")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    data = Images(arguments.data)
    options = Options(
        samples=min(arguments.samples, len(data)),
        refined=min(arguments.refined, len(data)),
        dimension=arguments.dimension,
        probes=arguments.probes,
        directions=arguments.directions,
        batches=arguments.batches,
    )
    whole = truth(data, *arguments.truth)
    answers = [from_a_part(data, options, seed) for seed in range(arguments.repetitions)]
    if arguments.peer:
        peer: tuple[float, float | None] = by_pyhessian(data)
    else:
        peer = len(data) * sum(PEER_PRODUCTS.values()), None
    report(answers, whole, peer)


if __name__ == "__main__":
    main()
