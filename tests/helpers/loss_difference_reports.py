"""Reports of loss differences made of given losses."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor

from lightning_hessian.records import (
    DerivativeSpread,
    Estimate,
    HeldOutLosses,
    LossDifferenceReport,
    LossSpread,
    LossSurface,
    NeighbourhoodVariance,
)
from lightning_hessian.studies import order_statistics

LOSSES = torch.tensor([0.1, 0.2, 0.4, 0.7, 2.0, 3.0], dtype=torch.float64)


def difference_report(
    losses: Tensor = LOSSES, step: int = 0, *, num_orders: int = 0, **changes: Any
) -> LossDifferenceReport:
    """The differences of these losses; derivatives and the like are given by ``changes``.

    Of ``differences`` and ``spread`` what is to be other than it is.
    """
    statistics = order_statistics(
        losses, num_orders=num_orders, generator=torch.Generator().manual_seed(0)
    )
    count = len(losses)
    curves, spread = changes.pop("differences", {}), changes.pop("spread", {})
    fields: dict[str, Any] = {
        "loss": float(losses.mean()),
        "loss_standard_error": math.sqrt(statistics.spread.variance.value / count),
        "differences": dataclasses.replace(statistics.differences, **curves),
        "spread": dataclasses.replace(statistics.spread, **spread),
        "num_parameters": 1000,
        "num_samples": count,
        "data": f"all {count:,} samples of the training set (TensorDataset)",
        "num_hvps": 12,
        "seconds": 1.5,
        "overhead": 0.04,
        "num_skipped": 2,
        "global_step": step,
    }
    return LossDifferenceReport(**(fields | changes))


def failed_difference(step: int = 0) -> LossDifferenceReport:
    """A report without numbers."""
    return LossDifferenceReport(failure="ValueError: no", seconds=0.1, global_step=step)


HELD_OUT = HeldOutLosses(
    loss=1.5,
    spread=LossSpread(
        variance=Estimate(value=2.25, standard_error=0.3),
        mean_absolute_deviation=Estimate(value=1.0, standard_error=0.1),
    ),
    gap=Estimate(value=0.4, standard_error=0.2),
    num_samples=50,
    data="50 samples of the validation set",
)
DERIVATIVES = {
    "gradient": DerivativeSpread(norm=0.5, variance=Estimate(value=4.0, standard_error=0.4)),
    "hessian": DerivativeSpread(norm=10.0, variance=Estimate(value=900.0, standard_error=60.0)),
}


def neighbourhood_at(sigma: float, **changes: Any) -> NeighbourhoodVariance:
    """``V(sigma) = 1 + 10 sigma^2 + 100 sigma^4``, exactly as predicted."""
    fields: dict[str, Any] = {
        "sigma": sigma,
        "dimensions": None,
        "variance": 1 + 10 * sigma**2 + 100 * sigma**4,
        "standard_error": 0.01,
        "num_perturbations": 8,
        "value_part": 1.0,
        "linear_part": 10 * sigma**2,
        "quadratic_part": 100 * sigma**4,
        "prediction_standard_error": 0.02,
    }
    return NeighbourhoodVariance(**(fields | changes))


def bowl(size: int = 21, **changes: Any) -> LossSurface:
    """``0.1 + x^2 + 4 y^2``; the difference is a saddle, its root mean square a bowl."""
    x = torch.linspace(-1, 1, size, dtype=torch.float64)
    y = torch.linspace(-2, 2, size + 2, dtype=torch.float64)
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    fields: dict[str, Any] = {
        "x": x,
        "y": y,
        "loss": 0.1 + columns.square() + 4 * rows.square(),
        "difference": 1e-3 * (columns.square() - rows.square()),
        "rms_difference": 2e-3 * (1 + columns.square() + rows.square()),
        "sample_size": 500,
        "directions": "eigenvectors of the two largest eigenvalues",
    }
    return LossSurface(**(fields | changes))
