"""How long the Hessian tab takes with many runs, and what its data take on the disk.

Run it from the repository: ``python -m examples.benchmarks.tab``. Each run has a hundred reports of
each callback. They are those of one short training on scikit-learn's digits, whose numbers are
moved a little from run to run and step to step. It prints the bytes of an entry, how long it is
from a click on the tab until all charts are drawn, and from a press of a key on the slider until
those of that step are. Chromium and playwright are needed.
"""

from __future__ import annotations

import argparse
import copy
import logging
import random
import statistics
import tempfile
import time
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from torch.utils.tensorboard import SummaryWriter

from examples.board import Board, served
from examples.browser import Visit, chromium_browser, visiting
from examples.demo import DigitsClassifier, digits
from lightning_hessian import CriticalPoint, HessianSpectrum, Krylov, LossDifference
from lightning_hessian.show.tab_entry import entry_bytes, tab_entry
from lightning_hessian.show.tensorboard import write_entry

Entry = dict[str, Any]
MOVED = ("eig_1", "trace", "loss", "gradient_norm")


def measured() -> list[Entry]:
    """An entry of each callback, after an epoch."""
    when: dict[str, Any] = {"max_overhead": None, "every_n_epochs": 1, "num_samples": 128}
    solver = Krylov(max_hvps=40)
    callbacks: dict[str, Any] = {
        "hessian": HessianSpectrum(parameter_blocks="modules", solver=solver, **when),
        "critical_point": CriticalPoint(solver=solver, **when),
        "loss_difference": LossDifference(thresholds=[1e-4], **when),
    }
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=1,
        callbacks=list(callbacks.values()),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(DigitsClassifier(), digits())
    return [tab_entry(each.reports[-1], name=name) for name, each in callbacks.items()]


def write(folder: Path, entries: list[Entry], *, runs: int, reports: int) -> None:
    """Runs whose numbers differ."""
    drawn = random.Random(0)
    for run in range(runs):
        scale = drawn.lognormvariate(0, 0.5)
        with SummaryWriter(str(folder / f"run_{run:02d}")) as writer:
            for number in range(reports):
                step = 10 * number
                writer.add_scalar("train_loss", scale / (1 + number), step)
                for entry in entries:
                    moved = copy.deepcopy(entry) | {"step": step}
                    for tag in moved["scalars"].keys() & set(MOVED):
                        moved["scalars"][tag] *= scale * drawn.uniform(0.9, 1.1)
                    tag = f"{entry['callback']}/report"
                    write_entry(writer, entry_bytes(moved), tag=tag, step=step)


def seconds_to_draw(visit: Visit) -> float:
    """From the click until every chart stands there."""
    start = time.perf_counter()
    visit.open_tab()
    visit.wait_for(lambda: visit.frame.locator("svg.plot").count() > 8, "charts")
    return time.perf_counter() - start


def seconds_to_follow(visit: Visit) -> float:
    """From a press of a key on the slider until the next frame after the charts of the step."""
    visit.frame.locator("nav input[type=range]").focus()
    start = time.perf_counter()
    visit.page.keyboard.press("ArrowLeft")
    visit.frame.evaluate(
        "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
    )
    return time.perf_counter() - start


def main() -> None:
    """Write the logs, look at them, print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--reports", type=int, default=100, help="of each callback in each run")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    entries = measured()
    for entry in entries:
        print(f"{entry['callback']}: {len(entry_bytes(entry)):,} bytes an entry")
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        logs = scratch / "logs"
        write(logs, entries, runs=options.runs, reports=options.reports)
        total = sum(path.stat().st_size for path in logs.rglob("*tfevents*"))
        number = options.runs * options.reports * len(entries)
        print(f"{options.runs} runs, {number:,} reports: {total / 1e6:.0f} MB of event files")
        start = time.perf_counter()
        board = stack.enter_context(served(logs, scratch))

        def is_read(board: Board) -> bool:
            return len(board.get("data/plugin/hessian/series")) == options.runs

        board.wait_for(is_read, "runs")
        print(f"TensorBoard is up and has read them after {time.perf_counter() - start:.1f} s")
        browser = stack.enter_context(chromium_browser())
        drawn, followed = [], []
        for _ in range(options.repeats):
            with visiting(browser, board.url) as visit:
                drawn.append(seconds_to_draw(visit))
                followed += [seconds_to_follow(visit) for _ in range(3)]
        print(f"drawn after {statistics.median(drawn):.1f} s (median of {len(drawn)})")
        print(f"a step later after {statistics.median(followed):.2f} s (of {len(followed)})")


if __name__ == "__main__":
    main()
