"""Closed-form laws and bounds, a paper each: numbers in, numbers out, no network and no data."""

from lightning_hessian.theory.kiselev_grabovoy_2024 import (
    sample_size_by_mean_abs,
    sample_size_by_rms,
    sample_size_uniform,
)

__all__ = [
    "sample_size_by_mean_abs",
    "sample_size_by_rms",
    "sample_size_uniform",
]
