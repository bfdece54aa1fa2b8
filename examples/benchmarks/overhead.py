"""How much longer a training takes with the spectrum measured in it.

Run it from the repository: ``python -m examples.benchmarks.overhead --threads 2 --data FOLDER``,
with a folder as in ``examples/data.py``; without, on its stand-in. Two trainings, with settings
as a user would have them: the demo's network on the digits, and an MNIST classifier. Each runs
without and with ``HessianSpectrum`` in turn, so that a machine that slows down slows both; the
figure is the median of the per cent that a pair differs by, with its range.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr
from io import StringIO
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.data import DataLoader

from examples.benchmarks.timing import seconds
from examples.data import Mnist
from examples.demo import DigitsClassifier, digits
from examples.networks import MnistClassifier
from lightning_hessian import HessianSpectrum


def train(
    module: Callable[[], pl.LightningModule],
    data: DataLoader[Any] | pl.LightningDataModule,
    epochs: int,
    callbacks: list[pl.Callback],
    accelerator: str = "cpu",
) -> pl.Trainer:
    """One training from the same seed on one device, with a logger, as in the demo."""
    pl.seed_everything(0, verbose=False)
    with tempfile.TemporaryDirectory() as folder, redirect_stderr(StringIO()):
        trainer = pl.Trainer(
            accelerator=accelerator,
            devices=1,
            max_epochs=epochs,
            callbacks=callbacks,
            logger=TensorBoardLogger(folder, name=None),
            log_every_n_steps=5,
            enable_model_summary=False,
            enable_progress_bar=False,
            enable_checkpointing=False,
        )
        trainer.fit(module(), data)
    return trainer


def compare(name: str, run: Callable[[list[pl.Callback]], object], options: Any) -> None:
    """Print one line for each setting of the callback."""
    settings: dict[str, dict[str, Any]] = {"defaults": {}}
    for share in options.max_overhead:
        settings[f"max_overhead={share:g}"] = {"max_overhead": share}
    run([])  # what is loaded and compiled once is not the callback's
    overheads: dict[str, list[float]] = {setting: [] for setting in settings}
    reports: dict[str, int] = {}
    without: list[float] = []
    for repetition in range(options.repetitions):
        for setting, arguments in settings.items():
            callback = HessianSpectrum(**arguments)
            # which of the two comes first changes, so that no drift favours one
            order = [[], [callback]] if repetition % 2 == 0 else [[callback], []]
            took = {
                len(callbacks): seconds(lambda callbacks=callbacks: run(callbacks))
                for callbacks in order
            }
            without.append(took[0])
            overheads[setting].append(100 * (took[1] / took[0] - 1))
            reports[setting] = len(callback.reports)
    print(f"\n{name}: {statistics.median(without):.2f} s without\n")
    print("| setting | more wall time | range | reports |\n|---|---|---|---|")
    for setting, each in overheads.items():
        print(
            f"| {setting} | {statistics.median(each):+.1f} % "
            f"| {min(each):+.1f} to {max(each):+.1f} | {reports[setting]} |",
            flush=True,
        )


def main() -> None:
    """Time both trainings."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=2, help="torch threads")
    parser.add_argument("--data", help="folder with the files of MNIST")
    parser.add_argument("--repetitions", type=int, default=10, help="pairs for each setting")
    parser.add_argument("--demo-epochs", type=int, default=12)
    parser.add_argument("--mnist-epochs", type=int, default=5)
    parser.add_argument(
        "--max-overhead", type=float, nargs="*", default=[], help="budgets to try, such as 0.02"
    )
    parser.add_argument("--quick", action="store_true", help="once and short, to check the program")
    options = parser.parse_args()
    if options.quick:
        options.repetitions, options.demo_epochs, options.mnist_epochs = 1, 1, 1
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    for pattern in (".*does not have many workers.*", ".*LeafSpec.*", ".*logging interval.*"):
        warnings.filterwarnings("ignore", pattern)
    torch.set_num_threads(options.threads)
    print(f"{options.threads} thread(s), {options.repetitions} pair(s)")
    loader = digits()
    compare(
        f"demo, {options.demo_epochs} epoch(s)",
        lambda callbacks: train(DigitsClassifier, loader, options.demo_epochs, callbacks),
        options,
    )
    images = Mnist(options.data)
    compare(
        f"{'stand-in for MNIST' if options.data is None else 'MNIST'}, "
        f"{options.mnist_epochs} epoch(s)",
        lambda callbacks: train(MnistClassifier, images, options.mnist_epochs, callbacks),
        options,
    )


if __name__ == "__main__":
    main()
