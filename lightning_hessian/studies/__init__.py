"""What combines losses, products and estimators into an answer to a question."""

from lightning_hessian.studies.directions import random_directions
from lightning_hessian.studies.hessian_difference import HessianDifferences, hessian_differences
from lightning_hessian.studies.loss_difference import measure_loss_difference
from lightning_hessian.studies.neighbourhood import neighbourhood_variance
from lightning_hessian.studies.order_statistics import order_statistics
from lightning_hessian.studies.refined_interval import refined_interval
from lightning_hessian.studies.sample_moments import Moment, SampleMoments, sample_moments
from lightning_hessian.studies.sampling_error import sampling_error
from lightning_hessian.studies.spectrum import SpectrumStudy
from lightning_hessian.studies.surface import loss_surface, parameter_norm

__all__ = [
    "HessianDifferences",
    "Moment",
    "SampleMoments",
    "SpectrumStudy",
    "hessian_differences",
    "loss_surface",
    "measure_loss_difference",
    "neighbourhood_variance",
    "order_statistics",
    "parameter_norm",
    "random_directions",
    "refined_interval",
    "sample_moments",
    "sampling_error",
]
