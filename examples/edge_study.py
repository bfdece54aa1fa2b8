"""Does the curvature rise until the optimiser can just stand it, and stay there?

The experiment of Cohen and others, "Gradient descent on neural networks typically occurs at the
edge of stability" (2021), and of their "Adaptive gradient methods at the edge of stability" (2022):
full batches, here 400 of scikit-learn's digits, a tanh network 64-24-10, squared error. Gradient
descent at three learning rates, Adam and RMSprop at one, with ``HessianSpectrum(edge=True)``
measuring: the largest eigenvalue as the optimiser's steps see it, beside its threshold.

Then gradient descent at many learning rates from the same weights: where does it stay below the
threshold, where does it hover about it, and from which rate on does it diverge?

And SGD on the same digits by batches of 8, 40 and 400, without momentum and with: the curvature of
batches along their own gradients, ``HessianSpectrum(batch_sharpness=True)``, in units of 2 / lr.

Run it from the repository: ``python -m examples.edge_study``.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import lightning.pytorch as pl
import numpy as np

from examples.data import FewDigits
from examples.edge_figures import edge_figure, minibatch_figure
from examples.edge_minibatches import SETTINGS as MINIBATCHES
from examples.edge_minibatches import minibatch_course, minibatch_table
from examples.edge_runs import Course, Ending, ending, first_margin
from examples.networks import TanhRegressor
from lightning_hessian import HessianSpectrum

SETTINGS = (("SGD", 0.3), ("SGD", 1.0), ("SGD", 2.0), ("Adam", 0.02), ("RMSprop", 0.003))


def course(optimizer: str, rate: float, options: argparse.Namespace) -> Course:
    """One training, with the edge measured every ``options.every`` steps."""
    callback = HessianSpectrum(
        num_eigenvalues=1,
        num_smallest=0,
        trace=False,
        density=False,
        edge=True,
        num_samples="all",
        every_n_epochs=None,
        every_n_train_steps=options.every,
        max_overhead=None,
        on_error="raise",
    )
    pl.seed_everything(options.seed, verbose=False)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=options.steps,
        max_epochs=-1,
        callbacks=[callback],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(TanhRegressor(optimizer, rate), FewDigits(options.samples))
    # an adaptive optimiser has no step sizes before its first step
    reports = [report for report in callback.reports if report.edge is not None]
    return Course(
        optimizer=optimizer,
        rate=rate,
        steps=[report.global_step for report in reports],
        losses=[report.loss for report in reports],
        sharpness=[report.edge.sharpness for report in reports if report.edge],
        threshold=reports[-1].edge.threshold if reports[-1].edge else math.nan,
        verdict=reports[-1].edge.verdict if reports[-1].edge else "",
    )


def table(courses: Sequence[Course]) -> str:
    """A line for each training: sharpness over threshold at its start, and over its second half."""
    lines = [f"{'optimiser':<14} {'rate':>6} {'loss':>8} {'first':>6}  second half, least to most"]
    for each in courses:
        low, high = each.second_half
        lines.append(
            f"{each.optimizer:<14} {each.rate:>6g} {each.losses[-1]:>8.4f} "
            f"{each.sharpness[0] / each.threshold:>6.2f}  {low:.2f} to {high:.2f} of the threshold "
            f"{each.threshold:g}"
        )
    return "\n".join(lines)


def scan_table(endings: Sequence[Ending], seeds: Sequence[int]) -> str:
    """A line for each learning rate: what became of each seed."""
    lines = [f"{'rate':>6}  what gradient descent ends at, seeds {', '.join(map(str, seeds))}"]
    for rate in sorted({each.rate for each in endings}):
        kinds = [f"{each.kind} ({each.loss:.3g})" for each in endings if each.rate == rate]
        lines.append(f"{rate:>6.3g}  {', '.join(kinds)}")
    return "\n".join(lines)


def main() -> None:
    """Train, scan, print, save."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/edge_study"))
    parser.add_argument("--steps", type=int, default=1000, help="of each training")
    parser.add_argument("--every", type=int, default=20, help="steps between two measurements")
    parser.add_argument("--samples", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0, help="of the first weights")
    parser.add_argument("--rates", type=int, default=13, help="to scan, from 0.25 to 4")
    parser.add_argument("--seeds", type=int, default=3, help="to scan them with")
    parser.add_argument("--minibatch-steps", type=int, default=4000, help="by mini-batches")
    options = parser.parse_args()
    for pattern in (".*does not have many workers.*", ".*LeafSpec.*", ".*log_every_n_steps.*"):
        warnings.filterwarnings("ignore", pattern)
    options.out.mkdir(parents=True, exist_ok=True)
    start = time.process_time()

    courses = [course(optimizer, rate, options) for optimizer, rate in SETTINGS]
    print(f"{options.samples} digits, {options.steps} steps\n\n{table(courses)}\n")
    for each in courses:
        print(f"{each.optimizer} {each.rate:g}: {each.verdict}")

    batch, seeds = FewDigits(options.samples).batch(), range(options.seeds)
    rates = np.geomspace(0.25, 4, options.rates).tolist()
    endings = [ending(r, batch, seed=s, steps=options.steps) for r in rates for s in seeds]
    limits = [first_margin(batch, seed=seed) for seed in seeds]
    print(f"\n{scan_table(endings, seeds)}")
    print(f"\n2 over the first sharpness: {', '.join(f'{each:.2f}' for each in limits)}")
    by_minibatches = [
        minibatch_course(
            parts,
            momentum,
            samples=options.samples,
            steps=options.minibatch_steps,
            every=max(options.minibatch_steps // 20, 1),
            seed=options.seed,
        )
        for parts, momentum in MINIBATCHES
    ]
    print(f"\n{options.minibatch_steps} steps\n\n{minibatch_table(by_minibatches)}")
    print(f"\n{time.process_time() - start:.0f} s of CPU")

    edge_figure(courses, endings, limits).savefig(options.out / "edge.png", dpi=90)
    minibatch_figure(by_minibatches).savefig(options.out / "minibatches.png", dpi=90)
    numbers = {
        "courses": [asdict(each) for each in courses],
        "scan": [asdict(each) for each in endings],
        "two_over_first_sharpness": limits,
        "by_minibatches": [asdict(each) for each in by_minibatches],
    }
    (options.out / "study.json").write_text(json.dumps(numbers))
    print(f"saved {options.out}/edge.png, minibatches.png, study.json")


if __name__ == "__main__":
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    main()
