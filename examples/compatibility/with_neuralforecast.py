"""neuralforecast: NHITS on three series, by its own fit, which draws windows in every step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from neuralforecast import NeuralForecast
from neuralforecast.models import NHITS

from examples.compatibility.case import QUIET, Case
from lightning_hessian import Krylov

DAYS = np.arange(40)
FRAME = pd.concat(
    pd.DataFrame(
        {
            "unique_id": f"series {shift}",
            "ds": pd.date_range("2000-01-01", periods=len(DAYS)),
            "y": np.sin(DAYS / 3 + shift),
        }
    )
    for shift in range(3)
)


def train(callbacks: list[Any]) -> Any:
    """Twelve values foretell four."""
    network = NHITS(
        h=4,
        input_size=12,
        max_steps=3,
        mlp_units=3 * [[4, 4]],
        random_seed=0,
        windows_batch_size=16,
        callbacks=callbacks,
        **QUIET,
    )
    forecaster = NeuralForecast(models=[network], freq="D")
    forecaster.fit(FRAME)
    return forecaster.models[0]


CASE = Case("NHITS, windows drawn in the step", train, options={"solver": Krylov(max_hvps=40)})
