"""darts: a linear forecaster on the windows of one series, by its own fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from darts import TimeSeries
from darts.models import NLinearModel
from torch import Tensor
from torch.nn import functional as F

from examples.compatibility.case import QUIET, Case

SERIES = np.sin(np.arange(40, dtype=np.float32) / 3) + np.arange(40, dtype=np.float32) / 40


def train(callbacks: list[Any]) -> Any:
    """Six values foretell two."""
    forecaster = NLinearModel(
        input_chunk_length=6,
        output_chunk_length=2,
        normalize=False,
        n_epochs=1,
        batch_size=8,
        random_state=0,
        pl_trainer_kwargs={**QUIET, "callbacks": callbacks},
    )
    forecaster.fit(TimeSeries.from_values(SERIES))
    return forecaster.model


def loss(module: Any) -> Tensor:
    """Squared errors of a linear map, over all windows."""
    windows = torch.from_numpy(SERIES).double().unfold(0, 8, 1)
    return F.mse_loss(windows[:, :6] @ module.layer.weight.T + module.layer.bias, windows[:, 6:])


CASE = Case("NLinear, windows of a series", train, loss)
