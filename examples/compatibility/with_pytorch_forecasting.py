"""pytorch-forecasting: a temporal fusion transformer on its own data set of windows."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import numpy as np
import pandas as pd
from pytorch_forecasting import TemporalFusionTransformer, TimeSeriesDataSet
from pytorch_forecasting.metrics import QuantileLoss

from examples.compatibility.case import QUIET, Case
from lightning_hessian import Krylov

TIMES = np.tile(np.arange(24), 2)
GROUPS = np.repeat(["a", "b"], 24)
FRAME = pd.DataFrame(
    {"time": TIMES, "group": GROUPS, "value": np.sin(TIMES / 3.0) + (GROUPS == "b")}
)


def train(callbacks: list[Any]) -> TemporalFusionTransformer:
    """Six values foretell two, in quantiles."""
    windows = TimeSeriesDataSet(
        FRAME,
        time_idx="time",
        target="value",
        group_ids=["group"],
        static_categoricals=["group"],
        time_varying_unknown_reals=["value"],
        max_encoder_length=6,
        max_prediction_length=2,
    )
    module = TemporalFusionTransformer.from_dataset(
        windows,
        hidden_size=4,
        hidden_continuous_size=2,
        attention_head_size=1,
        dropout=0.1,
        loss=QuantileLoss(),
        log_interval=-1,
    )
    loader = windows.to_dataloader(train=True, batch_size=12)
    pl.Trainer(**QUIET, max_epochs=1, callbacks=callbacks).fit(module, loader)
    return module


CASE = Case(
    "temporal fusion transformer, quantiles", train, options={"solver": Krylov(max_hvps=60)}
)
