"""How long the loss difference takes as the paper's script computes it, and as we do; and errors.

The script of Kiselev & Grabovoy (2024) computes the loss of one sample after the other, and
averages the difference over 100 random orders. Ours is the whole measurement in a running fit:
samples fetched and frozen, the check that losses of single samples can be read off batches, the
losses, all statistics with their errors, the state put back; the next one in the same fit finds
the samples frozen. All see the same network, and are timed in turn, so that a machine that slows
down slows all; the ratios are what carries over to other machines.

Run it from the repository: ``python -m examples.benchmarks.loss_difference --data FOLDER``, with a
folder as in ``examples/data.py``; without, on synthetic images.
"""

from __future__ import annotations

import argparse
import logging
import random
import statistics
import time
import warnings
from collections.abc import Sequence

import lightning.pytorch as pl
import numpy as np
import numpy.typing as npt
import torch
from torch.func import functional_call
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from examples.data import HeldOutMnist
from examples.networks import ReluMlp
from examples.sample_size_runs import FIXED_DEPTH, FIXED_WIDTH, NUM_ORDERS
from lightning_hessian import Loss, LossDifference, LossDifferenceReport
from lightning_hessian.statistics import simulate_orders

SHOWN = (10, 100, 1000, 5000)
"""Sample sizes near which errors are shown, besides the largest."""


def images(path: str | None, count: int) -> TensorDataset:
    """Images of 28 x 28 pixels: the first ones of a file, or noise that depends on the label."""
    if path is not None:
        data = HeldOutMnist(path, num_samples=count)
        data.setup("fit")
        return data.dataset
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(10, (count,), generator=generator)
    means = torch.randn(10, 1, 28, 28, generator=generator)
    noise = torch.randn(count, 1, 28, 28, generator=generator)
    return TensorDataset(0.06 * means[labels] + 0.5 * noise, labels)


def by_the_script(module: ReluMlp, dataset: TensorDataset) -> npt.NDArray[np.float64]:
    """Mean absolute difference for every k, over 100 random orders of losses taken one by one."""
    parameters = dict(module.network.named_parameters())
    losses = []
    with torch.no_grad():
        for image, label in dataset:
            scores = functional_call(module.network, parameters, (image[None],))
            losses.append(F.cross_entropy(scores, label[None]).item())
    sizes = np.arange(1, len(losses) + 1)
    orders = [
        np.abs(np.diff(np.cumsum(random.sample(losses, len(losses))) / sizes))
        for _ in range(NUM_ORDERS)
    ]
    mean: npt.NDArray[np.float64] = np.mean(orders, axis=0)
    return mean


class Comparison(pl.Callback):
    """Times all three when the training is over."""

    def __init__(self, dataset: TensorDataset, repetitions: int) -> None:
        self.dataset = dataset
        self.repetitions = repetitions
        self.seconds: list[tuple[float, float, float]] = []

    def on_train_end(self, trainer: pl.Trainer, pl_module: ReluMlp) -> None:
        """In turn; ours by a callback that has measured nothing before."""
        for _ in range(self.repetitions):
            start = time.perf_counter()
            by_the_script(pl_module, self.dataset)
            between = time.perf_counter()
            ours = LossDifference(
                num_samples="all",
                derivatives=False,
                keep_losses=True,
                on_error="raise",
                loss=Loss(batch_size=1000),
            )
            ours.begin(trainer, pl_module)
            ours.measure_again(trainer)
            first = time.perf_counter()
            ours.measure_again(trainer)
            next_one = time.perf_counter() - first
            self.seconds.append((between - start, first - between, next_one))
        self.report: LossDifferenceReport = ours.reports[-1]


def print_times(seconds: Sequence[tuple[float, float, float]]) -> None:
    """Medians, and the ratios with their ranges."""
    names = ("our whole job", "our next one in the fit")
    script, *ours = zip(*seconds, strict=True)
    one_by_one = f"one by one, {NUM_ORDERS} orders"
    print(f"{one_by_one:<24} {statistics.median(script):7.3f} s")
    for name, column in zip(names, ours, strict=True):
        ratios = sorted(s / o for s, o in zip(script, column, strict=True))
        print(
            f"{name:<24} {statistics.median(column):7.3f} s, ratio {statistics.median(ratios):.1f} "
            f"({ratios[0]:.1f} to {ratios[-1]:.1f})"
        )


def print_errors(report: LossDifferenceReport, num_reference: int) -> None:
    """Errors of the mean over all orders of these samples, and ours against very many orders."""
    wanted = [k for k in SHOWN if k < report.num_samples - 1]
    curves = report.differences
    nearest = [int((curves.sample_sizes - k).abs().argmin()) for k in wanted]
    places = torch.tensor([*dict.fromkeys(nearest), len(curves.sample_sizes) - 1])
    sizes = curves.sample_sizes[places]
    orders = simulate_orders(
        report.sample_losses,
        num_orders=num_reference,
        generator=torch.Generator().manual_seed(1),
        sample_sizes=sizes,
    )
    mean, spread = orders.mean(dim=0), orders.std(dim=0)
    squares = orders.square()
    rms_error = squares.std(dim=0) / squares.mean(dim=0) / 2 / NUM_ORDERS**0.5
    script = spread / mean / NUM_ORDERS**0.5
    value, ours = curves.mean_abs[places], curves.mean_abs_estimate_error[places]
    off = (value - mean) / torch.hypot(ours, spread / num_reference**0.5)
    print(f"\n{'':>6} {'root mean square':>26} {'mean absolute difference':>48}")
    print(
        f"{'k':>6} {f'{NUM_ORDERS} orders':>13} {'ours':>12} {f'{NUM_ORDERS} orders':>13} "
        f"{'ours':>12} {'ratio':>9} {f'ours - {num_reference:,} orders':>26}"
    )
    for row in zip(sizes, rms_error, script, ours / value, off, strict=True):
        k, of_rms, of_script, of_ours, distance = map(float, row)
        ratio = f"{of_script / of_ours:.0f}" if of_ours > 0 else "inf"
        print(
            f"{k:>6.0f} {of_rms:>13.2%} {'exact':>12} {of_script:>13.2%} "
            f"{f'{of_ours:.3%}' if of_ours > 0 else 'exact':>12} {ratio:>9} "
            f"{distance:>12.1f} standard errors"
        )


def main() -> None:
    """Train, time both, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", help="folder with the files of MNIST")
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=10, help="of training before")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    parser.add_argument("--reference-orders", type=int, default=20_000)
    options = parser.parse_args()
    for pattern in (".*does not have many workers.*", ".*LeafSpec.*", ".*no `val_dataloader`.*"):
        warnings.filterwarnings("ignore", pattern)
    torch.set_num_threads(options.threads)
    pl.seed_everything(0, verbose=False)
    random.seed(0)
    dataset = images(options.data, options.samples)
    module = ReluMlp(FIXED_WIDTH, FIXED_DEPTH)
    comparison = Comparison(dataset, options.repetitions)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=options.epochs,
        callbacks=[comparison],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(dataset, batch_size=64, shuffle=True))
    print(
        f"{len(dataset):,} {'synthetic images' if options.data is None else 'images'}, width "
        f"{FIXED_WIDTH}, depth {FIXED_DEPTH} ({FIXED_DEPTH + 2} matrices), "
        f"{options.threads} thread(s), median of {options.repetitions}"
    )
    print_times(comparison.seconds)
    print("\nrelative standard errors of the means over all orders of these samples")
    print_errors(comparison.report, options.reference_orders)


if __name__ == "__main__":
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    main()
