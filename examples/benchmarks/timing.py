"""Contenders in turn in one process, each repetition beside its own gradient unit."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from examples.benchmarks.answers import Errors
from examples.benchmarks.contenders import Contender
from examples.benchmarks.plain import PlainLoss
from examples.benchmarks.truth import Truth
from examples.benchmarks.workloads import Workload

LEAST_SECONDS, LEAST_CALLS = 0.3, 3


@dataclass(slots=True)
class Record:
    """What one contender took and gave, in every repetition.

    Attributes:
        name: Of the contender.
        seconds: Wall time.
        units: The same in gradient units, timed just before.
        products: Hessian-vector products.
        errors: Against the truth.
    """

    name: str
    seconds: list[float] = field(default_factory=list)
    units: list[float] = field(default_factory=list)
    products: list[int] = field(default_factory=list)
    errors: list[Errors] = field(default_factory=list)


def seconds(run: Callable[[], object]) -> float:
    """Wall time of one call, with what it leaves a GPU to do."""
    _wait_for_gpu()
    start = time.perf_counter()
    run()
    _wait_for_gpu()
    return time.perf_counter() - start


def median_seconds(run: Callable[[], object]) -> float:
    """Wall time of a call: the median of some."""
    times: list[float] = []
    while len(times) < LEAST_CALLS or sum(times) < LEAST_SECONDS:
        times.append(seconds(run))
    return statistics.median(times)


def gradient_unit(loss: PlainLoss) -> float:
    """Seconds of one forward and backward pass over all batches: a median."""
    return median_seconds(loss.gradient)


def interleaved(
    workload: Workload,
    truth: Truth,
    contenders: Sequence[Contender],
    *,
    repetitions: int,
) -> list[Record]:
    """Run all contenders in turn, ours first, with a new seed in each repetition.

    Args:
        workload: What is measured.
        truth: What the answers are compared with.
        contenders: Who takes part.
        repetitions: Of the whole round.
    """
    plain = PlainLoss(workload, keep=False)
    records = [Record(contender.name) for contender in contenders]
    contenders[0].run(workload, 0)  # kernels and threads are set up by the first to come
    for seed in range(repetitions):
        for contender, record in zip(contenders, records, strict=True):
            unit = gradient_unit(plain)
            start = time.perf_counter()
            answer = contender.run(workload, seed)
            took = answer.seconds or time.perf_counter() - start
            record.seconds.append(took)
            record.units.append(took / unit)
            record.products.append(answer.num_products)
            record.errors.append(Errors.of(answer, truth))
    return records


def trace_rmse(workload: Workload, truth: Truth, contender: Contender, num_seeds: int) -> float:
    """Relative root mean square error of the trace over seeds, untimed."""
    answers = [contender.run(workload, 1000 + seed) for seed in range(num_seeds)]
    squares = [(answer.trace / truth.trace - 1) ** 2 for answer in answers]
    return statistics.mean(squares) ** 0.5


def _wait_for_gpu() -> None:
    # calls return when their work is queued, not when it is done
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
