"""What a spectrum costs in memory and products, by number of parameters and kind of basis.

Run it from the repository: ``python examples/benchmarks/krylov_memory.py --sizes 1e6 --limit 8``.
Every measurement is a process of its own, whose peak of resident memory is taken over that of the
operator alone. The structured operator is a diagonal between two reflections, with outliers like a
trained classifier's: its products cost next to nothing, so that the time is the method's own. The
wide network is a real loss, with the graph of its gradient in memory. Beyond what fits, rows are
computed: vectors held times bytes, on one device and on each of several that hold the model whole.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_hessian.data import FrozenBatch, FrozenBatches
from lightning_hessian.hvp import open_loss
from lightning_hessian.linalg import SymmetricOperator, measure_spectrum

GIB = 2**30
MAX_HVPS = 100
WORKING_VECTORS = 16
"""Four blocks of four: products, remainder and next block."""
METHODS = {
    "full basis, float32": {"basis": "full"},
    "full basis, bfloat16": {"basis": "bfloat16"},
    "restarts + recurrence": {"basis": "auto"},
}
RESTART_VECTORS = 40
"""A basis of 24 beside the blocks in flight."""


class Structured:
    """``R D R`` with a diagonal ``D`` and a reflection ``R``; works in place on slices of rows."""

    def __init__(self, size: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self._diagonal = 0.05 * torch.randn(size, generator=generator)
        self._diagonal[:10] = torch.linspace(1, 10, 10)
        self._mirror = torch.randn(size, generator=generator)
        self._mirror /= self._mirror.norm()
        self.size, self.device, self.dtype = size, torch.device("cpu"), torch.float32

    def matmat(self, vectors: Tensor) -> Tensor:
        """Two reflections and a scaling, in the memory of the result alone."""
        rows = vectors.T.clone(memory_format=torch.contiguous_format)
        for row in rows:
            row.sub_(self._mirror, alpha=2 * float(self._mirror @ row))
            row.mul_(self._diagonal)
            row.sub_(self._mirror, alpha=2 * float(self._mirror @ row))
        return rows.T


def wide_network(size: int) -> nn.Module:
    """One hidden layer of 784 inputs and 10 outputs with about ``size`` parameters."""
    width = max(round(size / 795), 1)
    return nn.Sequential(nn.Linear(784, width), nn.Tanh(), nn.Linear(width, 10))


def peak_bytes() -> int:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def spectrum_of(operator: SymmetricOperator, method: str) -> dict[str, float]:
    """Measure and say what it cost."""
    operator.matmat(torch.ones(operator.size, 4))
    before, start = peak_bytes(), time.perf_counter()
    limit = RESTART_VECTORS * 4 * operator.size if method == "restarts + recurrence" else None
    found = measure_spectrum(
        operator,
        max_hvps=MAX_HVPS,
        generator=torch.Generator().manual_seed(0),
        memory_limit=limit,
        basis=METHODS[method]["basis"],  # type: ignore[arg-type]
    )
    assert found.trace is not None
    return {
        "size": operator.size,
        "seconds": time.perf_counter() - start,
        "bytes": peak_bytes() - before,
        "products": found.num_hvps,
        "largest": float(found.largest.values[0]),
        "bound": float(found.largest.residual_bounds[0]),
        "trace": found.trace.value,
        "trace_error": found.trace.standard_error,
    }


def measure(kind: str, size: int, method: str) -> dict[str, float]:
    """One measurement, in this process."""
    torch.manual_seed(0)
    if kind == "structured":
        return spectrum_of(Structured(size), method)
    network = wide_network(size)
    inputs, labels = torch.randn(64, 784), torch.randint(0, 10, (64,))
    batches = FrozenBatches((FrozenBatch((inputs, labels), 64, 0, 64),), 64, "random images")

    def loss(batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        return F.cross_entropy(network(batch[0]), batch[1])

    with open_loss(network, loss, batches) as whole:
        return spectrum_of(whole.products, method)


def measured_apart(kind: str, size: int, method: str, threads: int) -> dict[str, float] | None:
    """The same in a fresh process; None where it ran out of memory."""
    command = [
        sys.executable,
        __file__,
        "--threads",
        str(threads),
        "--one",
        kind,
        str(size),
        method,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"  {kind}, {size:.0e}, {method}: failed\n{done.stderr[-500:]}", file=sys.stderr)
        return None
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def vectors_held(method: str, products: int) -> float:
    """Vectors of float32 that a method holds at once, beside the model and its graph."""
    if method == "restarts + recurrence":
        return RESTART_VECTORS
    return products * (0.5 if "bfloat16" in method else 1.0) + WORKING_VECTORS


def print_measured(sizes: list[int], threads: int) -> None:
    """The rows that were run."""
    print(
        "| operator | parameters | method | products | memory, GiB | vectors of float32 | seconds "
        "| lambda_1 (bound) | trace (s.e.) |\n|---|---|---|---|---|---|---|---|---|"
    )
    for kind in ("structured", "wide network"):
        for size in sizes:
            for method in METHODS:
                row = measured_apart(kind, size, method, threads)
                if row is None:
                    continue
                print(
                    f"| {kind} | {row['size']:.3g} | {method} | {row['products']} "
                    f"| {row['bytes'] / GIB:.2f} | {row['bytes'] / 4 / row['size']:.0f} "
                    f"| {row['seconds']:.1f} | {row['largest']:.4g} ({row['bound']:.1g}) "
                    f"| {row['trace']:.4g} ({row['trace_error']:.1g}) |",
                    flush=True,
                )


def print_largest(limit: float, threads: int) -> None:
    """For each method the most parameters whose vectors stay within a limit, run."""
    print(f"\nLargest structured operator within {limit:g} GiB:\n")
    print("| method | parameters | memory, GiB | seconds |\n|---|---|---|---|")
    for method in METHODS:
        # the operator's own two vectors are held, too
        vectors = vectors_held(method, MAX_HVPS) + 2
        size = int(limit * GIB / 4 / vectors / 1e5) * 10**5
        row = measured_apart("structured", size, method, threads)
        if row is not None:
            memory = (row["bytes"] + 8 * size) / GIB
            print(f"| {method} | {size:.3g} | {memory:.2f} | {row['seconds']:.0f} |", flush=True)


def print_computed(sizes: list[float], products: int) -> None:
    """What does not fit here: arithmetic, not measured."""
    print(f"\nComputed, {products} products, without model and graph (GiB on each device):\n")
    print("| method | " + " | ".join(f"{size:.0e}" for size in sizes) + " |")
    print("|---" * (len(sizes) + 1) + "|")
    for method in METHODS:
        held = vectors_held(method, products) * 4 / GIB
        print(f"| {method} | " + " | ".join(f"{held * size:.3g}" for size in sizes) + " |")
    blocks = WORKING_VECTORS * 4 / GIB
    print("| on the host: device | " + " | ".join(f"{blocks * s:.3g}" for s in sizes) + " |")
    hosts = products * 4 / GIB
    print("| on the host: host | " + " | ".join(f"{hosts * s:.3g}" for s in sizes) + " |")
    print(
        "\nData-parallel devices share the products' time, not this memory: each holds the whole "
        "model, and the vectors. Blocks of one hold a quarter of the blocks in flight."
    )


def main() -> None:
    """Parse the options and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=float, nargs="+", default=[1e6, 1e7])
    parser.add_argument("--limit", type=float, default=8.0, help="GiB; 0 to leave that table out")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.one:
        kind, size, method = options.one
        print(json.dumps(measure(kind, int(size), method)))
        return
    print_measured([int(size) for size in options.sizes], options.threads)
    if options.limit:
        print_largest(options.limit, options.threads)
    print_computed([1e8, 1e9, 1e10], MAX_HVPS)


if __name__ == "__main__":
    main()
