"""What one Hessian-vector product costs, in every way that we and the peers make it.

Run it from the repository: ``python -m examples.benchmarks.product_cost --threads 2``. Costs are
per vector, in gradients: one forward and backward pass of plain float32 torch over the same
samples. Each is the median of ratios to the gradient timed just before it, all ways in turn, so
that a machine that slows down slows all; the ratios are what carries over to other machines. What
is done once for many products (a kept graph) is not counted.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from examples.benchmarks import settings, with_curvlinops, with_eigenthings, with_pyhessian
from examples.benchmarks.contenders import load, missing
from examples.benchmarks.lanczos import rademacher
from examples.benchmarks.ours import OurSettings, training_loss
from examples.benchmarks.plain import PlainLoss
from examples.benchmarks.timing import gradient_unit, seconds
from examples.benchmarks.workloads import BUILDERS, Workload, build

Multiply = Callable[[Tensor], object]
"""Takes a block ``(n, b)``."""

Ways = dict[tuple[str, int], Callable[[], AbstractContextManager[Multiply]]]
"""By name and number of vectors in a block."""


@contextmanager
def our_product(workload: Workload, how: OurSettings) -> Iterator[Multiply]:
    """Inside the sandbox, as a sweep makes them."""
    with training_loss(workload, how) as loss:
        yield loss.products.matmat


def ways(workload: Workload, block: int) -> Ways:
    """Ours by each of ``settings.PRODUCTS``, alone and in blocks; the peers' that are installed."""
    found: Ways = {}
    for name, how in settings.PRODUCTS.items():
        for width in (1, 2, block):
            found[f"ours, {name}", width] = partial(our_product, workload, how)
    absent = missing()

    def add(name: str, width: int, make: Callable[[], Multiply]) -> None:
        if name.split(",")[0] not in absent:
            found[name, width] = lambda: nullcontext(make())

    add("PyHessian, kept", 1, lambda: with_pyhessian.product_of(workload, kept=True))
    add("PyHessian, recomputed", 1, lambda: with_pyhessian.product_of(workload, kept=False))
    for width in (1, block):
        add(
            "curvlinops",
            width,
            lambda: with_curvlinops.operator_of(workload, kept=False).__matmul__,
        )
    by_eigenthings = partial(with_eigenthings.product_of, workload)
    add("eigenthings, kept", 1, lambda: _of_column(by_eigenthings(kept=True)))
    add("eigenthings, recomputed", 1, lambda: _of_column(by_eigenthings(kept=False)))
    return found


def _of_column(product: Callable[[Tensor], Tensor]) -> Multiply:
    return lambda block: product(block[:, 0])


def measure(workload: Workload, block: int, repetitions: int) -> list[str]:
    """Lines of the workload's table."""
    plain = PlainLoss(workload, keep=False)
    generator = torch.Generator().manual_seed(0)
    columns = [rademacher(plain.size, generator, plain.dtype) for _ in range(block)]
    # columns are contiguous, as those of a sweep are
    vectors = torch.stack(columns).T
    found = ways(workload, block)
    ratios: dict[tuple[str, int], list[float]] = {key: [] for key in found}
    units = []
    for _ in range(repetitions):
        for key, enter in found.items():
            part = vectors[:, : key[1]]
            with enter() as multiply:
                for _ in range(2):  # a kept graph is compared with a fresh one at its first use
                    multiply(part)
                took = seconds(lambda multiply=multiply, part=part: multiply(part))
            units.append(gradient_unit(plain))
            ratios[key].append(took / key[1] / units[-1])
    title = f"{workload.name}, {workload.title}: a gradient takes {statistics.median(units):.4f} s"
    lines = [f"\n{title}\n", "| product | block | gradients per vector |", "|---|---|---|"]
    for (name, width), each in ratios.items():
        ordered = sorted(each)
        spread = f"({ordered[0]:.2f} to {ordered[-1]:.2f})"
        lines.append(f"| {name} | {width} | {statistics.median(each):.2f} {spread} |")
    return lines


def main() -> None:
    """Print a table for each workload."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=2, help="torch threads")
    parser.add_argument(
        "--workloads", nargs="+", choices=sorted(BUILDERS), default=["W2", "W3", "W4"]
    )
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--block", type=int, default=4, help="vectors in the larger block")
    parser.add_argument(
        "--quick", action="store_true", help="once on W1, as a check of the program"
    )
    options = parser.parse_args()
    if options.quick:
        options.workloads, options.repetitions = ["W1"], 1
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", ".*create_graph=True will create a reference cycle.*")
    torch.set_num_threads(options.threads)
    load()
    print(f"float32, {options.threads} thread(s), medians of {options.repetitions}")
    for name in missing():
        print(f"{name} is not installed and left out")
    with sdpa_kernel(SDPBackend.MATH):
        for name in options.workloads:
            print("\n".join(measure(build(name), options.block, options.repetitions)), flush=True)


if __name__ == "__main__":
    main()
