"""gluonts: its feed-forward network on a stream of windows, by its own estimator."""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np
from gluonts.dataset.common import ListDataset
from gluonts.torch import SimpleFeedForwardEstimator

from examples.compatibility.case import QUIET, Case
from lightning_hessian import Krylov

SERIES = [
    {"start": "2000-01-01", "target": np.sin(np.arange(40) / 3 + shift)} for shift in range(4)
]


def train(callbacks: list[Any]) -> Any:
    """The estimator saves a checkpoint of its own, and takes up the best."""
    with tempfile.TemporaryDirectory() as folder:
        estimator = SimpleFeedForwardEstimator(
            prediction_length=2,
            context_length=6,
            hidden_dimensions=[4],
            batch_size=8,
            num_batches_per_epoch=5,
            trainer_kwargs={
                **QUIET,
                "enable_checkpointing": True,
                "default_root_dir": folder,
                "max_epochs": 1,
                "callbacks": callbacks,
            },
        )
        return estimator.train_model(ListDataset(SERIES, freq="D")).trained_net


CASE = Case(
    "feed-forward, stream of windows",
    train,
    options={"solver": Krylov(max_hvps=100), "num_samples": 32},
)
