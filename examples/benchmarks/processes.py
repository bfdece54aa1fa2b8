"""How much sooner two processes have a report than one, with one thread each.

Run it from the repository: ``python examples/benchmarks/processes.py``. An MLP of 235,146
parameters on random images, as in a data-parallel fit: the same products by one process, and by two
that share its batches. The first one's orthogonalisation is not shared, so the ratio grows with
``--samples``. Both are measured in turn, so that a machine that slows down slows
both; the ratio is what carries over to other machines. It takes two idle cores. On busy ones the
processor time of the busiest process still tells how the work is split, but not how long a process
waits for the other.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from itertools import pairwise

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_hessian.data import FrozenBatch, FrozenBatches
from lightning_hessian.hvp import open_loss
from lightning_hessian.linalg import measure_spectrum
from lightning_hessian.loss import Conductor, TrainingLoss, measure_on_first
from lightning_hessian.processes import Processes, SingleProcess, processes_of
from lightning_hessian.records import Spectrum

BATCH_SIZE = 256


def batches_of(processes: Processes, num_samples: int) -> FrozenBatches:
    """This process's share of random images, whose labels depend on them."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(num_samples, 784, generator=generator)
    targets = inputs[:, :10].argmax(dim=1)
    parts = enumerate(zip(inputs.split(BATCH_SIZE), targets.split(BATCH_SIZE), strict=True))
    own = [
        FrozenBatch(p, BATCH_SIZE, i, BATCH_SIZE)
        for i, p in parts
        if i % processes.size == processes.rank
    ]
    return FrozenBatches(tuple(own), num_samples, "synthetic images")


def seconds(processes: Processes, num_samples: int, max_hvps: int) -> tuple[float, float]:
    """Wall time and processor time of one measurement, of the process that takes most."""
    torch.manual_seed(0)
    widths = (784, 256, 128, 10)
    layers = [nn.Linear(a, b) for a, b in pairwise(widths)]
    network = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])

    def batch_loss(batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        return F.cross_entropy(network(batch[0]), batch[1])

    def measure(loss: TrainingLoss | Conductor) -> Spectrum:
        generator = torch.Generator().manual_seed(0)
        return measure_spectrum(loss.products, max_hvps=max_hvps, rtol=1e-6, generator=generator)

    batches = batches_of(processes, num_samples)
    with open_loss(network, batch_loss, batches, processes=processes) as loss:
        start, start_of_work = time.perf_counter(), time.process_time()
        measure_on_first(loss, processes, measure)
        taken = time.perf_counter() - start, time.process_time() - start_of_work
    each = [processes.broadcast(taken, rank) for rank in range(processes.size)]
    return max(wall for wall, _ in each), max(work for _, work in each)


def main() -> None:
    """Print the ratio; Fabric runs this program again as its second process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=5, help="of each timing")
    parser.add_argument("--max-hvps", type=int, default=80, help="of each measurement")
    parser.add_argument("--samples", type=int, default=8192, help="random images")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp")
    fabric.launch()
    torch.set_num_threads(1)
    processes = processes_of(fabric)
    alone, shared = [], []
    for _ in range(options.repetitions):
        if fabric.is_global_zero:
            alone.append(seconds(SingleProcess(), options.samples, options.max_hvps))
        fabric.barrier()
        shared.append(seconds(processes, options.samples, options.max_hvps))
    if fabric.is_global_zero:
        print(f"one thread per process, median of {options.repetitions}")
        for name, index in (("wall time", 0), ("processor time", 1)):
            ones, twos = [a[index] for a in alone], [s[index] for s in shared]
            ratios = sorted(a / b for a, b in zip(ones, twos, strict=True))
            print(
                f"{name:<15} one process {statistics.median(ones):6.2f} s, two "
                f"{statistics.median(twos):6.2f} s, ratio {statistics.median(ratios):.2f} "
                f"({ratios[0]:.2f} to {ratios[-1]:.2f})"
            )
    fabric.barrier()
    # Fabric leaves the group to the end of the program, where its threads may outlive it
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
