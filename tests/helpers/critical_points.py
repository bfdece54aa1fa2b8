"""Reports of points made by hand."""

from __future__ import annotations

from typing import Any

import torch

from lightning_hessian.records import (
    CriticalPointReport,
    Escape,
    IndexCount,
    LayerNorm,
    Nearness,
)
from tests.helpers.reports import density_at, eigenvalues_at, trace_at


def nearness(*left: float) -> tuple[Nearness, ...]:
    """What is left of the gradient within 0.1, 1 and 10 % of weights of length 10."""
    shares = (0.001, 0.01, 0.1)
    return tuple(
        Nearness(share=share, radius=10 * share, gradient_left=each, decrease=share)
        for share, each in zip(shares, left, strict=True)
    )


def index_counts(
    fraction: float = 0.2, bracket: tuple[float, float] = (0.1, 0.3), null: float = 0.05
) -> tuple[IndexCount, ...]:
    """The same by three thresholds."""
    names = {"relative_1e-3": 4e-3, "relative_1e-6": 4e-6, "absolute_1e-3": 1e-3}
    return tuple(
        IndexCount(
            name=name,
            threshold=threshold,
            fraction=fraction,
            bracket=bracket,
            null=null,
            null_bracket=(null, null),
        )
        for name, threshold in names.items()
    )


def escape_at(**changes: Any) -> Escape:
    """Down a symmetric saddle, ``-t^2 / 2 + t^4 / 24``, least at the root of 6."""
    t = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0, 3.0], dtype=torch.float64)
    fields: dict[str, Any] = {
        "curvature": -1.0,
        "slope": 0.0,
        "third": 0.0,
        "fourth": 1.0,
        "predicted_distance": 6**0.5,
        "predicted_decrease": 1.5,
        "distances": t,
        "losses": 2 - t**2 / 2 + t**4 / 25,
        "distance": 2.0,
        "decrease": 1.36,
    }
    return Escape(**(fields | changes))


def point_at(step: int = 0, **changes: Any) -> CriticalPointReport:
    """A full report, of a point that is not critical."""
    fields: dict[str, Any] = {
        "gradient_norm": 0.3,
        "parameter_norm": 10.0,
        "nearness": nearness(0.9, 0.45, 0.1),
        "flatness": 0.5,
        "indices": index_counts(),
        "largest": eigenvalues_at([4.0], [0.01]),
        "smallest": eigenvalues_at([-1.0], [0.02]),
        "trace": trace_at(12.0),
        "density": density_at(-1.0, 0.0, 4.0),
        "escape": escape_at(),
        "layers": (LayerNorm(name="network.0", norm=8.0), LayerNorm(name="network.2", norm=6.0)),
        "loss": 2.0,
        "num_parameters": 1000,
        "num_samples": 26,
        "data": "all 26 samples of the training set (TensorDataset)",
        "num_hvps": 40,
        "seconds": 1.5,
        "gradient_seconds": 0.01,
        "cost": 2_000.0,
        "overhead": 0.04,
        "num_skipped": 2,
        "global_step": step,
    }
    return CriticalPointReport(**(fields | changes))
