"""Products on a GPU: what they cost in gradients, and how often the host waits for them."""

from __future__ import annotations

import copy
import statistics
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise

import torch
from torch import Tensor

from examples.benchmarks.ours import OurSettings, training_loss
from examples.benchmarks.plain import PlainLoss
from examples.benchmarks.settings import PRODUCTS
from examples.benchmarks.tables import header, row, spread
from examples.benchmarks.timing import gradient_unit, median_seconds
from examples.benchmarks.workloads import Workload
from lightning_hessian.hvp import ExactProducts
from lightning_hessian.linalg import KrylovSpace, block_lanczos, rademacher
from lightning_hessian.loss import TrainingLoss

MIB = 2**20
SYNCHRONISING = "called a synchronizing CUDA operation"
"""What torch warns of in its debug mode of synchronisation."""

WAYS: dict[str, tuple[OurSettings, int]] = {
    "graph kept": (PRODUCTS["kept"], 1),
    "graph kept, block of 4": (PRODUCTS["kept"], 4),
    "recomputed": (PRODUCTS["recomputed"], 1),
    "recomputed, block of 4": (PRODUCTS["recomputed"], 4),
}
"""How products are made, and of how many vectors at once."""

USUAL = "(a gradient by torch's own switches)"


@dataclass(slots=True)
class Way:
    """What one way to make products took, in every repetition.

    Attributes:
        seconds: For a vector.
        gradients: Seconds of a gradient, timed just after in the same arithmetic.
        kept: MiB of the graphs that were kept.
    """

    seconds: list[float] = field(default_factory=list)
    gradients: list[float] = field(default_factory=list)
    kept: float = 0.0

    @property
    def units(self) -> list[float]:
        """Gradients for a vector."""
        pairs = zip(self.seconds, self.gradients, strict=True)
        return [took / gradient for took, gradient in pairs]


def on_device(workload: Workload, device: str, times: int = 1) -> Workload:
    """A copy there, each batch so many times as large: the same Hessian of more work."""
    batches = tuple(
        (torch.cat([inputs] * times).to(device), torch.cat([targets] * times).to(device))
        for inputs, targets in workload.batches
    )
    network = copy.deepcopy(workload.network).to(device)
    return replace(workload, network=network, batches=batches)


def vectors_for(loss: TrainingLoss, width: int) -> Tensor:
    """The same signs on every device, and its kept graph compared with a fresh one already."""
    generator = torch.Generator().manual_seed(0)
    vectors = rademacher(loss.size, width, generator=generator, device=loss.device)
    for _ in range(2):
        loss.products.matmat(vectors)
    return vectors


def time_products(workload: Workload, plain: PlainLoss, ways: dict[str, Way]) -> None:
    """Each way once, and what a gradient takes by the switches that training has."""
    for name, (how, width) in WAYS.items():
        # the gradient, too, inside the sandbox: outside, convolutions round to TF32 on a GPU
        with training_loss(workload, how) as loss:
            vectors = vectors_for(loss, width)
            took = median_seconds(lambda loss=loss, vectors=vectors: loss.products.matmat(vectors))
            ways[name].seconds.append(took / width)
            ways[name].gradients.append(gradient_unit(plain))
            assert isinstance(loss.products, ExactProducts)
            ways[name].kept = loss.products.graph_bytes / MIB
    ways[USUAL].seconds.append(gradient_unit(plain))
    ways[USUAL].gradients.append(ways[name].gradients[-1])


def print_products(
    workloads: Sequence[Workload], device: str, *, times: Sequence[int], repetitions: int
) -> None:
    """A table of all ways, for each network at each size of its batches."""
    columns = (
        "network",
        "samples",
        "product",
        "gradients per vector",
        "ms per vector",
        "kept, MiB",
    )
    print(header("Products, in gradients of full float32", *columns))
    for workload in (on_device(each, device, factor) for each in workloads for factor in times):
        plain = PlainLoss(workload, keep=False)
        plain.gradient()  # kernels are loaded by the first to come
        ways = {name: Way() for name in (*WAYS, USUAL)}
        for _ in range(repetitions):
            time_products(workload, plain, ways)
        for name, way in ways.items():
            cells = (
                f"{workload.name}, {workload.title}",
                f"{workload.num_samples:,}",
                name,
                spread(way.units, ".2f"),
                f"{1000 * statistics.median(way.seconds):.3g}",
                f"{way.kept:.0f}",
            )
            print(row(*cells), flush=True)


@contextmanager
def counted_waits() -> Iterator[Callable[[], int]]:
    """How often the host has waited for the GPU so far, as far as torch's debug mode sees it."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")  # else each place would be heard of once
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield lambda: sum(SYNCHRONISING in str(warning.message) for warning in caught)
        finally:
            torch.cuda.set_sync_debug_mode(before)


def waits_in_product(workload: Workload, how: OurSettings) -> int:
    """In one product of one vector, not the first."""
    with training_loss(workload, how) as loss:
        vectors = vectors_for(loss, 1)
        with counted_waits() as count:
            loss.products.matmat(vectors)
            return count()


def waits_in_step(workload: Workload, how: OurSettings) -> int:
    """In one step of a sweep with its product: the most of three, not counting the first."""
    totals: list[int] = []

    def has_enough(_: KrylovSpace) -> bool:
        totals.append(count())
        return len(totals) == 4

    with training_loss(workload, how) as loss:
        start, generator = vectors_for(loss, 1), torch.Generator().manual_seed(0)
        with counted_waits() as count:
            block_lanczos(
                loss.products,
                start,
                max_dimension=8,
                generator=generator,
                should_stop=has_enough,
            )
    return max(after - before for before, after in pairwise(totals))


def print_waits(workloads: Sequence[Workload], device: str) -> None:
    """A table of a product and a step of a sweep, by kept and by recomputed graphs."""
    if device != "cuda":
        print("\nWaits of the host for the GPU are left out: there is no GPU to wait for.")
        return
    columns = ("network", "batches", "graph", "product", "sweep step")
    print(header("Waits of the host for the GPU", *columns))
    for workload in (on_device(each, device) for each in workloads):
        for name in ("kept", "recomputed"):
            counts = (wait(workload, PRODUCTS[name]) for wait in (waits_in_product, waits_in_step))
            print(row(workload.name, len(workload.batches), name, *counts), flush=True)
    print(
        "\nMeant to be: none in a product by kept graphs, one for each batch by recomputed ones, "
        "whose loss\nis looked at; one more in a step, for its small matrices."
    )
