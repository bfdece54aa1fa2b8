"""The callback's own report in a fit, everything included: set-up, sandbox, figure, event file."""

from __future__ import annotations

import copy
import tempfile
import time
import warnings
from contextlib import redirect_stderr
from io import StringIO
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from examples.benchmarks.answers import Answer
from examples.benchmarks.workloads import Workload
from lightning_hessian import HessianSpectrum, Krylov

Moment = Literal["start", "end"]
NO_RATE = 1e-9
"""Of the one step in between: the weights are other ones, and the truth is still theirs."""


class Timed(HessianSpectrum):
    """Keeps the seconds that its hooks take at the start and at the end of a fit."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.took: dict[Moment, float] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The first report, with all that is looked at once in a fit."""
        start = time.perf_counter()
        super().on_train_start(trainer, pl_module)
        self.took["start"] = time.perf_counter() - start

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A later one."""
        start = time.perf_counter()
        super().on_train_end(trainer, pl_module)
        self.took["end"] = time.perf_counter() - start


class Module(pl.LightningModule):
    """The workload's network, as one would train it."""

    def __init__(self, workload: Workload) -> None:
        super().__init__()
        self.network = copy.deepcopy(workload.network)
        self.criterion = workload.criterion

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """The loss."""
        loss: Tensor = self.criterion(self.network(batch[0]), batch[1])
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """One that hardly moves."""
        return torch.optim.SGD(self.parameters(), lr=NO_RATE)


def run(workload: Workload, seed: int, *, moment: Moment = "start") -> Answer:
    """A report at the start of a fit, or at its end, in the accuracy of the other contenders."""
    callback = Timed(
        num_samples="all",
        every_n_epochs=None,
        max_overhead=None,
        seed=seed,
        on_error="raise",
        solver=Krylov(rtol=0.01, max_hvps=400),
    )
    loader = DataLoader(
        TensorDataset(*workload.joined), batch_size=len(workload.batches[0][1]), shuffle=True
    )
    with tempfile.TemporaryDirectory() as logs, redirect_stderr(StringIO()):
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        pl.Trainer(
            accelerator="cpu",
            max_steps=1,
            callbacks=[callback],
            logger=TensorBoardLogger(logs, name=None),
            enable_model_summary=False,
            enable_progress_bar=False,
            enable_checkpointing=False,
        ).fit(Module(workload), loader)
    report = callback.reports[0 if moment == "start" else -1]
    assert report.trace is not None
    assert report.density is not None
    return Answer(
        largest=report.largest.values.tolist(),
        smallest=float(report.smallest.values[0]),
        trace=report.trace.value,
        nodes=report.density.nodes.tolist(),
        weights=report.density.weights.tolist(),
        num_products=report.num_hvps,
        seconds=callback.took[moment],
    )
