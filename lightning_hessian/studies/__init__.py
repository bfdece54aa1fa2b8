"""What combines losses, products and estimators into an answer to a question."""

from lightning_hessian.studies.directions import random_directions
from lightning_hessian.studies.hessian_difference import HessianDifferences, hessian_differences
from lightning_hessian.studies.neighbourhood import neighbourhood_variance
from lightning_hessian.studies.sample_moments import Moment, SampleMoments, sample_moments
from lightning_hessian.studies.surface import loss_surface, parameter_norm

__all__ = [
    "HessianDifferences",
    "Moment",
    "SampleMoments",
    "hessian_differences",
    "loss_surface",
    "neighbourhood_variance",
    "parameter_norm",
    "random_directions",
    "sample_moments",
]
