"""Closed-form laws and bounds, a paper each: numbers in, numbers out, no data."""

from lightning_hessian.theory.kiselev_grabovoy_2024 import (
    MeanSquareDifference,
    difference_bound,
    mean_square_difference,
    worst_case_difference_bound,
    worst_case_sample_size,
    worst_case_sample_size_of_mean_square,
)
from lightning_hessian.theory.relu_mlp_bounds import (
    ReluMlpBounds,
    corrected_theorem_bound,
    layers_of,
    printed_theorem_bound,
    relu_mlp_bounds,
)

__all__ = [
    "MeanSquareDifference",
    "ReluMlpBounds",
    "corrected_theorem_bound",
    "difference_bound",
    "layers_of",
    "mean_square_difference",
    "printed_theorem_bound",
    "relu_mlp_bounds",
    "worst_case_difference_bound",
    "worst_case_sample_size",
    "worst_case_sample_size_of_mean_square",
]
