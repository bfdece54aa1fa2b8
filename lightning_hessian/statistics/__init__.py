"""Laws of numbers: errors of estimates, order statistics; no network, no Lightning."""

from lightning_hessian.statistics.mean_abs_difference import SortedLosses, mean_distances
from lightning_hessian.statistics.propagation import root_with_error
from lightning_hessian.statistics.random_orders import difference_along, simulate_orders
from lightning_hessian.statistics.ratios import mean_of_ratios, ratio_of_means
from lightning_hessian.statistics.rotations import deviation_over_subspaces
from lightning_hessian.statistics.sample_size import (
    rms_difference,
    sample_size_by_mean_abs,
    sample_size_by_rms,
    sample_size_uniform,
)
from lightning_hessian.statistics.student import widening

__all__ = [
    "SortedLosses",
    "deviation_over_subspaces",
    "difference_along",
    "mean_distances",
    "mean_of_ratios",
    "ratio_of_means",
    "rms_difference",
    "root_with_error",
    "sample_size_by_mean_abs",
    "sample_size_by_rms",
    "sample_size_uniform",
    "simulate_orders",
    "widening",
]
