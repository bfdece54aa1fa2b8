"""Find each peer's cheapest settings for the accuracy asked for, on one workload.

``python -m examples.benchmarks.peers --tune`` does it, goes on with what was found, and prints the
entries of ``settings.EQUAL`` and of ``settings.ONE_RUN``.

- Lanczos: one long run for each seed; the fewest steps after which the five largest Ritz values and
  the lowest have the accuracy, for every seed.
- Density: fewest steps whose Wasserstein-1 distance, averaged over seeds, is within a tenth of
  that after 80 steps: more steps do not help one probe. PyHessian's run must reach the lowest
  eigenvalue as well, for which it has nothing else.
- PyHessian's power iteration: the largest tolerance that gives the accuracy for every seed.
- Trace: fewest products whose relative rmse is within 5 %: Hutchinson's from the scatter of all
  samples, Hutch++ and XTrace from ten seeds, all budgets from the same nested products.
- ``eigsh``: the fewest products over tolerances, sizes of its space, and ways to ask for both ends.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product as combinations
from typing import Any

import numpy as np
import torch
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh
from torch import Tensor

from examples.benchmarks import with_pyhessian
from examples.benchmarks.answers import (
    LARGEST_ERROR,
    SMALLEST_ERROR,
    TRACE_ERROR,
    Errors,
    density_distance,
)
from examples.benchmarks.lanczos import Tridiagonal, lanczos, rademacher
from examples.benchmarks.nested_traces import Sketch, hutch_plus_plus, xtrace
from examples.benchmarks.plain import PlainLoss
from examples.benchmarks.truth import NUM_LARGEST, Truth
from examples.benchmarks.workloads import Workload

SEEDS = range(3)
TOLERANCES = (1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 3e-6)
POWER_ITERATIONS = 1000
REFERENCE_STEPS, LONGEST_RUN = 80, 120
MAX_SKETCH, TRACE_SEEDS = 45, 10
EIGSH_TOLERANCES, EIGSH_SIZES = (1e-1, 1e-2), (12, 20, 30, 40)
EIGSH_ENDS = ((("LA", 5), ("SA", 1)), (("BE", 10),))


def ends_are_found(values: Any, truth: Truth) -> bool:
    """Whether the largest and the lowest of some values have the accuracy asked for."""
    ordered = np.sort(np.asarray(values))
    if len(ordered) <= NUM_LARGEST:
        return False
    largest = ordered[::-1][:NUM_LARGEST] / truth.largest - 1
    lowest = ordered[0] / truth.smallest - 1
    return bool(np.abs(largest).max() <= LARGEST_ERROR and abs(lowest) <= SMALLEST_ERROR)


def fewest_steps(runs: list[Tridiagonal], truth: Truth) -> int:
    """Steps after which every run has found both ends."""
    longest = len(runs[0].diagonal)
    good = [
        steps
        for steps in range(NUM_LARGEST + 1, longest + 1)
        if all(ends_are_found(run.ritz(steps)[0].tolist(), truth) for run in runs)
    ]
    return min(good, default=longest)


def fewest_density_steps(runs: list[Tridiagonal], truth: Truth) -> int:
    """Steps after which the density is as near to the truth as after 80, within a tenth."""

    def distance(steps: int) -> float:
        each = []
        for run in runs:
            values, vectors, _ = run.ritz(steps)
            each.append(density_distance(values.tolist(), vectors[0].square().tolist(), truth))
        return float(np.mean(each))

    enough = 1.1 * distance(REFERENCE_STEPS)
    return next(steps for steps in range(5, REFERENCE_STEPS + 1) if distance(steps) <= enough)


def largest_tolerance(workload: Workload, truth: Truth) -> float:
    """Of PyHessian's power iteration."""

    def has_accuracy(tol: float, seed: int) -> bool:
        asked: dict[str, Any] = {"probes": 1, "steps": 1, "max_iter": POWER_ITERATIONS}
        answer = with_pyhessian.run(workload, seed, kept=True, tol=tol, **asked)
        return Errors.of(answer, truth).largest <= LARGEST_ERROR

    for tol in TOLERANCES:
        if all(has_accuracy(tol, seed) for seed in SEEDS):
            return tol
    return TOLERANCES[-1]


def hutchinson_probes(samples: list[float], truth: Truth) -> int:
    """Probes for the standard error asked for; at least two, without which there is none."""
    scatter = float(np.std(samples, ddof=1)) / abs(truth.trace)
    return max(2, math.ceil((scatter / TRACE_ERROR) ** 2))


def cheapest_trace(loss: PlainLoss, truth: Truth, hutchinson: int) -> dict[str, tuple[int, float]]:
    """Products and relative rmse of Hutch++ and XTrace; infinite where Hutchinson is cheaper."""
    widest = min(MAX_SKETCH, math.ceil(hutchinson / 2))
    errors: dict[str, list[list[float]]] = {"hutch++": [], "xtrace": []}
    for seed in range(TRACE_SEEDS):
        generator = torch.Generator().manual_seed(100 + seed)
        sketch = Sketch.of(loss, widest, generator)
        for name, estimates in (
            ("hutch++", hutch_plus_plus(loss, sketch, generator)),
            ("xtrace", xtrace(sketch)),
        ):
            errors[name].append([value / truth.trace - 1 for value in estimates])
    cheapest = {}
    for name, each, least in (("hutch++", 3, 1), ("xtrace", 2, 2)):
        rmse = np.sqrt(np.mean(np.square(errors[name]), axis=0))
        # all larger sketches too: over ten seeds the rmse itself scatters
        good = [
            k for k in range(least, len(rmse) + least) if (rmse[k - least :] <= TRACE_ERROR).all()
        ]
        cheapest[name] = (
            (each * good[0], float(rmse[good[0] - least])) if good else (10**9, math.inf)
        )
    return cheapest


def cheapest_eigsh(loss: PlainLoss, truth: Truth) -> tuple[int, Any, dict[str, Any]]:
    """Products, which ends in which calls, and options."""

    def multiply(vector: np.ndarray) -> np.ndarray:
        if loss.num_products >= limit:
            raise StopIteration
        return loss.product(torch.from_numpy(vector.ravel().copy())).numpy()

    operator = LinearOperator((loss.size, loss.size), matvec=multiply, dtype=np.float32)
    limit, best = 10**9, (10**9, EIGSH_ENDS[0], {})
    for ends, tol, size in combinations(EIGSH_ENDS, EIGSH_TOLERANCES, EIGSH_SIZES):
        loss.num_products, worst, good = 0, 0, True
        for seed in SEEDS:
            # one that costs more than the best so far is not run to its end
            loss.num_products, limit = 0, best[0]
            start = np.random.default_rng(seed).standard_normal(loss.size).astype(np.float32)
            options = {"tol": tol, "ncv": size, "v0": start, "return_eigenvectors": False}
            try:
                found = [eigsh(operator, k=k, which=which, **options) for which, k in ends]
            except (StopIteration, ArpackNoConvergence):
                good = False
                break
            worst = max(worst, loss.num_products)
            good = ends_are_found(np.concatenate(found), truth)
            if not good:
                break
        if good and worst < best[0]:
            best = (worst, ends, {"tol": tol, "ncv": size})
    return best


def tune(workload: Workload, truth: Truth, say: Callable[[str], None]) -> tuple[Any, Any]:
    """An entry of ``EQUAL`` and one of ``ONE_RUN``."""
    loss = PlainLoss(workload)
    generator = torch.Generator().manual_seed(10)

    def gaussian() -> Tensor:
        return torch.randn(loss.size, generator=generator)

    samples, runs = [], []
    for _ in SEEDS:
        probe = rademacher(loss.size, generator, loss.dtype)
        runs.append(lanczos(loss.product, probe, LONGEST_RUN))
        samples.append(loss.size * float(runs[-1].diagonal[0]))
    density_steps, one_run = fewest_density_steps(runs, truth), fewest_steps(runs, truth)
    say(f"density {density_steps} steps, both ends {one_run} from signs")
    runs = [lanczos(loss.product, gaussian(), LONGEST_RUN) for _ in SEEDS]
    steps = fewest_steps(runs, truth)
    del runs
    say(f"both ends {steps} steps from a Gaussian")
    while len(samples) < 100:
        probe = rademacher(loss.size, generator, loss.dtype)
        samples.append(float(probe.double() @ loss.product(probe).double()))
    probes = hutchinson_probes(samples, truth)
    say(f"Hutchinson {probes} probes")
    traces = cheapest_trace(loss, truth, probes) if probes > 3 else {}
    sketched = {name: products for name, (products, _) in traces.items()}
    say(f"others {traces}")
    _, ends, options = cheapest_eigsh(loss, truth)
    say(f"eigsh {_} products, {ends}, {options}")
    tol = largest_tolerance(workload, truth)
    by_eigenthings = {"method": "hutchinson", "num_matvecs": probes}
    if sketched.get("hutch++", math.inf) < probes:
        by_eigenthings = {"method": "hutch++", "num_matvecs": sketched["hutch++"]}
    by_curvlinops = min(
        (probes, "hutchinson"),
        (sketched.get("hutch++", 10**9), "hutchpp"),
        (sketched.get("xtrace", 10**9), "xtrace"),
    )
    equal = {
        "PyHessian": {"kept": True, "tol": tol, "probes": probes,
                      "steps": max(one_run, density_steps), "max_iter": POWER_ITERATIONS},
        "eigenthings": {"kept": True, "steps": steps, "trace": by_eigenthings,
                        "density": {"num_runs": 1, "lanczos_steps": density_steps}},
        "curvlinops": {"kept": True, "ends": ends, "eigsh_options": options,
                       "trace": by_curvlinops[::-1], "steps": density_steps},
    }  # fmt: skip
    whole = max(one_run, density_steps)
    only = {
        "PyHessian": {"tol": None, "steps": whole},
        "eigenthings": {"steps": None, "density": {"num_runs": 1, "lanczos_steps": whole}},
    }
    return equal, only
