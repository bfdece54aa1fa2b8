"""One training of the study, with what was measured in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch.utils.data import TensorDataset

from examples.data import HeldOutMnist
from examples.networks import ReluMlp
from examples.sample_size_claims import Floats, Trend, trend_of, value_at_loss
from lightning_hessian import Loss, LossDifference, LossDifferenceReport
from lightning_hessian.statistics import simulate_orders

FIXED_DEPTH = 5
"""Of the networks whose widths are compared, as in the paper's figures."""

FIXED_WIDTH = 16
"""Of the networks whose depths are compared."""

NUM_ORDERS = 100
"""Of the paper's script."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A trained network.

    Attributes:
        data: Name of the data set.
        width: Of its hidden layers.
        depth: Matrices between them.
        seed: Of its weights and of the order of its batches.
        report: Of the trained network.
        course: Over the training, from its start to its end.
        train_accuracy: Share of training samples that are classified rightly.
        test_accuracy: Of the held-out samples.
        permuted: ``(N - 1,)`` mean absolute difference over 100 random orders, as the paper's
            script computes it.
    """

    data: str
    width: int
    depth: int
    seed: int
    report: LossDifferenceReport
    course: list[LossDifferenceReport]
    train_accuracy: float
    test_accuracy: float
    permuted: Floats

    @property
    def difference(self) -> float:
        """Mean absolute ``L_N - L_{N-1}`` over all orders."""
        return at_largest(self.report)

    @property
    def has_learned(self) -> bool:
        """Whether training took half of the first loss away."""
        return self.report.loss < self.course[0].loss / 2

    @property
    def is_dead(self) -> bool:
        """Whether a layer gives zero for every sample, so that all have the same loss."""
        return deviation_of(self.report) < 1e-6

    def to_dict(self) -> dict[str, Any]:
        """Plain values, without the loss of every sample."""
        report = self.report.to_dict()
        del report["sample_losses"]
        return {
            "data": self.data,
            "width": self.width,
            "depth": self.depth,
            "matrices": self.depth + 2,
            "seed": self.seed,
            "train_accuracy": self.train_accuracy,
            "test_accuracy": self.test_accuracy,
            "difference": self.difference,
            "course": {
                "global_step": [r.global_step for r in self.course],
                "loss": [r.loss for r in self.course],
                "mean_absolute_deviation": [deviation_of(r) for r in self.course],
            },
            "report": report,
        }


def deviation_of(report: LossDifferenceReport) -> float:
    """``MAD``: mean distance of a sample's loss to the mean."""
    return report.spread.mean_absolute_deviation.value


def at_largest(report: LossDifferenceReport) -> float:
    """Mean absolute ``L_N - L_{N-1}`` over all orders, which is ``MAD / (N - 1)`` exactly."""
    return deviation_of(report) / (report.num_samples - 1)


def train(data: HeldOutMnist, name: str, *, width: int, depth: int, seed: int, epochs: int) -> Run:
    """Train one network, our callback measuring."""
    pl.seed_everything(seed, verbose=False)
    module = ReluMlp(width, depth)
    loader = data.train_dataloader()
    common: dict[str, Any] = {
        "num_samples": "all",
        "loss": Loss(batch_size=1000),
        "derivatives": False,
        "every_n_epochs": None,
        "max_overhead": None,
        "on_error": "raise",
    }
    trained = LossDifference(held_out=data.val_dataloader(), keep_losses=True, **common)
    course = LossDifference(
        sample_sizes=[len(data.dataset) - 1],
        every_n_train_steps=max(1, len(loader) // 8),
        name="course",
        **common,
    )
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=[trained, course],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, loader)
    report = trained.reports[-1]
    generator = torch.Generator().manual_seed(seed)
    orders = simulate_orders(report.sample_losses, num_orders=NUM_ORDERS, generator=generator)
    return Run(
        data=name,
        width=width,
        depth=depth,
        seed=seed,
        report=report,
        course=course.reports,
        train_accuracy=_accuracy(module, data.dataset),
        test_accuracy=_accuracy(module, data.held_out),
        permuted=orders.mean(dim=0).numpy(),
    )


@torch.no_grad()
def _accuracy(module: ReluMlp, dataset: TensorDataset) -> float:
    images, labels = dataset.tensors
    return float((module.network(images).argmax(dim=1) == labels).float().mean())


@dataclass(frozen=True)
class Family:
    """Networks of one data set that differ in their width, or in their depth, and in the seed.

    Attributes:
        runs: ``[seed][setting]``.
        varied: ``width`` or ``depth``.
    """

    runs: list[list[Run]]
    varied: str

    @property
    def data(self) -> str:
        """Name of the data set."""
        return self.runs[0][0].data

    @property
    def settings(self) -> list[int]:
        """Widths or depths, ascending."""
        return [getattr(run, self.varied) for run in self.runs[0]]

    def of(self, index: int) -> list[Run]:
        """The runs of one setting."""
        return [row[index] for row in self.runs]

    def trends(self) -> dict[str, Trend]:
        """Tests of the paper's claim, of what it becomes beside the loss, and of the loss itself.

        Those that learned have halved their loss. At equal loss: each training is read off where
        it first comes down to the final loss of the worst of those of its seed that learned.
        """
        direction = -1 if self.varied == "width" else 1
        final = np.array([[run.report.loss for run in row] for row in self.runs])
        differences = np.array([[run.difference for run in row] for row in self.runs])
        learned = np.array([[run.has_learned for run in row] for row in self.runs])
        values = {
            "difference": differences,
            "difference, of those that learned": np.where(learned, differences, np.nan),
            "difference / loss": differences / final,
            "difference at equal loss": np.array([_at_equal_loss(row) for row in self.runs]),
            "training loss": final,
        }
        return {
            name: trend_of(self.settings, value, direction=direction)
            for name, value in values.items()
            if (np.isfinite(value).sum(axis=1) > 1).any()
        }


def _at_equal_loss(runs: Sequence[Run]) -> list[float]:
    """``nan`` for the networks that have not learned."""
    level = max((run.report.loss for run in runs if run.has_learned), default=0.0)
    return [
        value_at_loss(
            [report.loss for report in run.course],
            [at_largest(report) for report in run.course],
            level,
        )
        for run in runs
    ]
