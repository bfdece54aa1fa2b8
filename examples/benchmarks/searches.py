"""Searches for critical points: how many starts end where, and at which price.

``python -m examples.benchmarks.searches minimum --starts 3`` trains nothing: from random weights of
a tanh network on scikit-learn's digits it searches for a minimum of the cross-entropy with weight
decay. ``index`` searches for saddles of indices from 0 to 24 of the network of Pennington and Bahri
(2017), six inputs, hidden units and outputs, from points along descents of 1 to 1,000 steps; with
``--weight-decay 0`` as they have it. Three lines for each start, how much each method had in the
second, and their counts at the end.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from statistics import median

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_hessian.hvp import open_loss
from lightning_hessian.records import NEAR, MethodShare
from lightning_hessian.studies import FoundPoint, find_critical_point

SIZE, SAMPLES, HIGHEST = 6, 24, 24
HIDDEN = 48
RATE = 0.1
PASSES = 1e-6
"""Of a squared gradient, below which Pennington and Bahri take a point for a critical one."""


def minimum_from(seed: int, weight_decay: float, max_hvps: int) -> FoundPoint:
    """Of 3,610 parameters over 1,200 digits."""
    inputs, labels = load_digits(return_X_y=True)
    batch = torch.tensor(inputs[:1200] / 16), torch.tensor(labels[:1200])
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(64, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 10)).double()

    def batch_loss(data: tuple[Tensor, Tensor], _: int) -> Tensor:
        return F.cross_entropy(network(data[0]), data[1])

    with open_loss(network, batch_loss, [batch], dtype=torch.float64) as loss:
        return find_critical_point(
            loss, target="minimum", weight_decay=weight_decay, max_hvps=max_hvps
        )


def saddle_from(seed: int, weight_decay: float, max_hvps: int) -> FoundPoint:
    """Of 72 parameters over 24 random pairs."""
    draws = torch.Generator().manual_seed(3)
    inputs, targets = torch.randn(2, SAMPLES, SIZE, generator=draws, dtype=torch.float64)
    network = nn.Sequential(
        nn.Linear(SIZE, SIZE, bias=False), nn.Tanh(), nn.Linear(SIZE, SIZE, bias=False)
    ).double()
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(2 * SIZE * SIZE, generator=generator, dtype=torch.float64) / 2
    network[0].weight.data, network[2].weight.data = start.reshape(2, SIZE, SIZE)
    index = int(torch.randint(0, HIGHEST + 1, (1,), generator=generator))
    optimizer = torch.optim.SGD(network.parameters(), lr=RATE, weight_decay=weight_decay)
    for _ in range(int(10 ** (3 * torch.rand(1, generator=generator)))):
        optimizer.zero_grad()
        F.mse_loss(network(inputs), targets).backward()
        optimizer.step()

    def batch_loss(data: Tensor, _: int) -> Tensor:
        return F.mse_loss(network(data), targets)

    with open_loss(network, batch_loss, [inputs], dtype=torch.float64) as loss:
        return find_critical_point(loss, target=index, weight_decay=weight_decay, max_hvps=max_hvps)


def in_words(share: MethodShare) -> str:
    """What a method had."""
    return f"{share.name} {share.num_hvps:,} HVPs and {share.num_gradients:,} gradients"


def listed(counts: Counter[str]) -> str:
    """Those that are not zero."""
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)


def main() -> None:
    """Search from each start."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=["minimum", "index"])
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--weight-decay", type=float)
    parser.add_argument("--max-hvps", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    is_minimum = given.target == "minimum"
    search, usual = (minimum_from, 1e-3) if is_minimum else (saddle_from, 3e-3)
    decay = usual if given.weight_decay is None else given.weight_decay
    ends: Counter[str] = Counter()
    by_method: Counter[str] = Counter()
    spent: Counter[str] = Counter()
    away: list[float] = []
    started = time.perf_counter()
    for seed in range(given.starts):
        report = search(seed, decay, given.max_hvps).report
        assert report.point is not None
        ends[report.outcome] += 1
        ends["as asked for"] += report.is_target
        by_method[report.method] += report.outcome == "converged"
        is_small = report.point.gradient_norm**2 < PASSES
        is_fake = is_small and report.point.gradient_left > 0.5
        ends["of |g|^2 < 1e-6"] += is_small
        ends["of these r(1 %) > 0.5"] += is_fake
        if report.outcome == "converged":
            ends["converged where r(1 %) > 0.05"] += report.point.gradient_left > NEAR
            away.append(report.distance / report.start_norm)
        spent += Counter({each.name: each.num_hvps + each.num_gradients for each in report.shares})
        print(f"{seed:3} {report.target:9} {report.num_hvps:6,} HVPs {report.seconds:6.1f} s")
        print(f"    {', '.join(map(in_words, report.shares))}")
        print(f"    {report.verdict}", flush=True)
    seconds, total = time.perf_counter() - started, spent.total()
    shares = (f"{name} {count / total:.0%}" for name, count in spent.items())
    print(f"{seconds:.0f} s; products and gradients: {', '.join(shares)}")
    if away:
        print(f"converged by {listed(by_method)}; {median(away):.2g} lengths away in the median")
    print(listed(ends))


if __name__ == "__main__":
    main()
