"""The same report by us, PyHessian, hessian-eigenthings, and curvlinops with SciPy's eigsh.

Run it from the repository, after ``make benchmarks`` has installed the peers:
``python -m examples.benchmarks.peers --threads 2``. It prints a table for each workload and set of
settings: accuracy against the truth, Hessian-vector products, gradients (one forward and backward
pass of plain float32 torch over the same samples, timed beside), seconds, peak memory, and how many
times ours. All run in turn in one process, so that a machine that slows down slows all; the ratios
are what carries over. Sets: see ``contenders.contenders``; settings: ``settings.py``; those of a
workload that has none there are searched first, by ``tuning.py``.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from pathlib import Path
from pprint import pformat

import torch
from threadpoolctl import threadpool_limits
from torch.nn.attention import SDPBackend, sdpa_kernel

from examples.benchmarks import settings
from examples.benchmarks.contenders import SETS, contenders, load, missing
from examples.benchmarks.memory import peak_memory
from examples.benchmarks.tables import heading, table
from examples.benchmarks.timing import interleaved, trace_rmse
from examples.benchmarks.truth import Truth, truth_of
from examples.benchmarks.tuning import tune
from examples.benchmarks.workloads import BUILDERS, Workload, build


def compare(workload: Workload, truth: Truth, which: str, options: argparse.Namespace) -> str:
    """One table."""
    present = contenders(which, workload.name)
    if options.only:
        present = [c for c in present if any(part in c.name for part in ("ours", *options.only))]
    records = interleaved(workload, truth, present, repetitions=options.repetitions)
    peaks = [peak_memory(workload, c, options.threads) if options.memory else None for c in present]
    rmse = [
        trace_rmse(workload, truth, c, options.verify) if options.verify else None for c in present
    ]
    return table(records, peaks, rmse)


def tuned(workload: Workload, truth: Truth) -> None:
    """Search the peers' settings, print them, and take them for this run."""

    def say(text: str) -> None:
        print(text, flush=True)

    name = workload.name
    settings.EQUAL[name], settings.ONE_RUN[name] = tune(workload, truth, say)
    for title, found in (("EQUAL", settings.EQUAL), ("ONE_RUN", settings.ONE_RUN)):
        say(f"{title}[{name!r}] = {pformat(found[name], sort_dicts=False)}")


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=2, help="torch threads")
    parser.add_argument(
        "--workloads", nargs="+", choices=sorted(BUILDERS), default=sorted(BUILDERS)
    )
    parser.add_argument("--sets", nargs="+", choices=SETS, default=["equal", "one run"])
    parser.add_argument("--only", nargs="+", help="peers whose names hold one of these")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--verify", type=int, default=0, help="further seeds for the trace's rmse")
    parser.add_argument("--tune", action="store_true", help="search the peers' settings first")
    parser.add_argument("--truth", type=Path, help="folder to keep what is compared with")
    parser.add_argument("--no-memory", dest="memory", action="store_false")
    parser.add_argument(
        "--quick", action="store_true", help="once on W1, as a check of the program"
    )
    options = parser.parse_args()
    if options.quick:
        options.workloads, options.repetitions, options.memory = ["W1"], 1, False
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", ".*create_graph=True will create a reference cycle.*")
    torch.set_num_threads(options.threads)
    load()
    print(f"float32, {options.threads} thread(s), median of {options.repetitions}", flush=True)
    for name in missing():
        print(f"{name} is not installed and left out")
    with threadpool_limits(options.threads), sdpa_kernel(SDPBackend.MATH):
        for name in options.workloads:
            workload = build(name)
            truth = truth_of(workload, options.truth)
            print(f"\n{heading(workload, truth)}", flush=True)
            # also where none are recorded yet
            needs_settings = not set(options.sets) <= {"defaults", "hand-tuned"}
            if options.tune or (needs_settings and name not in settings.EQUAL):
                tuned(workload, truth)
            for which in options.sets:
                print(f"\n{which}\n\n{compare(workload, truth, which, options)}", flush=True)


if __name__ == "__main__":
    main()
