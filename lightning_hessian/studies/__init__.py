"""What combines losses, products and estimators into an answer to a question."""

from lightning_hessian.studies.batch_sharpness import batch_sharpness
from lightning_hessian.studies.critical_point import CriticalPointStudy
from lightning_hessian.studies.directions import random_directions
from lightning_hessian.studies.gauss_newton_split import gauss_newton_split
from lightning_hessian.studies.hessian_difference import hessian_differences
from lightning_hessian.studies.loss_difference import LossDifferenceStudy
from lightning_hessian.studies.minibatch_lines import minibatch_lines
from lightning_hessian.studies.neighbourhood import neighbourhood_variance
from lightning_hessian.studies.order_statistics import OrderStatistics, order_statistics
from lightning_hessian.studies.quick_spectrum import QuickSpectrum, quick_spectrum
from lightning_hessian.studies.random_matrices import compare_random_matrices
from lightning_hessian.studies.refined_interval import refined_interval
from lightning_hessian.studies.sample_moments import SampleMoments, sample_moments
from lightning_hessian.studies.sampling_error import sampling_error
from lightning_hessian.studies.search import (
    FoundPoint,
    SearchTarget,
    find_critical_point,
)
from lightning_hessian.studies.search_state import SearchState
from lightning_hessian.studies.spectrum import SpectrumStudy
from lightning_hessian.studies.stability_edge import StabilityEdge, stability_edge
from lightning_hessian.studies.study import Study
from lightning_hessian.studies.surface import loss_surface, parameter_norm
from lightning_hessian.studies.weight_decay import DecayedLoss

__all__ = [
    "CriticalPointStudy",
    "DecayedLoss",
    "FoundPoint",
    "LossDifferenceStudy",
    "OrderStatistics",
    "QuickSpectrum",
    "SampleMoments",
    "SearchState",
    "SearchTarget",
    "SpectrumStudy",
    "StabilityEdge",
    "Study",
    "batch_sharpness",
    "compare_random_matrices",
    "find_critical_point",
    "gauss_newton_split",
    "hessian_differences",
    "loss_surface",
    "minibatch_lines",
    "neighbourhood_variance",
    "order_statistics",
    "parameter_norm",
    "quick_spectrum",
    "random_directions",
    "refined_interval",
    "sample_moments",
    "sampling_error",
    "stability_edge",
]
