"""Closed-form laws and bounds, a paper each: numbers in, numbers out, no data."""

from lightning_hessian.theory.choromanska_2015 import (
    complexity,
    index_energy,
    index_share,
    threshold_energy,
)
from lightning_hessian.theory.free_convolution import DiscreteMeasure, FreeSum
from lightning_hessian.theory.kiselev_grabovoy_2024 import (
    MeanSquareDifference,
    difference_bound,
    mean_square_difference,
    worst_case_difference_bound,
    worst_case_sample_size,
    worst_case_sample_size_of_mean_square,
)
from lightning_hessian.theory.pennington_bahri_2017 import RefinedRelu, WishartPlusWigner
from lightning_hessian.theory.quantized import quantized
from lightning_hessian.theory.relu_mlp_bounds import (
    ReluMlpBounds,
    corrected_theorem_bound,
    layers_of,
    printed_theorem_bound,
    relu_mlp_bounds,
)
from lightning_hessian.theory.spin_glass_fit import EnergyFit, fit_energies

__all__ = [
    "DiscreteMeasure",
    "EnergyFit",
    "FreeSum",
    "MeanSquareDifference",
    "RefinedRelu",
    "ReluMlpBounds",
    "WishartPlusWigner",
    "complexity",
    "corrected_theorem_bound",
    "difference_bound",
    "fit_energies",
    "index_energy",
    "index_share",
    "layers_of",
    "mean_square_difference",
    "printed_theorem_bound",
    "quantized",
    "relu_mlp_bounds",
    "threshold_energy",
    "worst_case_difference_bound",
    "worst_case_sample_size",
    "worst_case_sample_size_of_mean_square",
]
