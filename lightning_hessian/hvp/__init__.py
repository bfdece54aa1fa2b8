"""Products of the loss's Hessian with vectors: exact ones, by differences, and by batch."""

from lightning_hessian.hvp.along_gradients import AlongGradients, along_gradients
from lightning_hessian.hvp.choice import ProductChoice
from lightning_hessian.hvp.difference_error import Probes
from lightning_hessian.hvp.differences import DifferenceProducts
from lightning_hessian.hvp.exact import ExactProducts, GraphTrust
from lightning_hessian.hvp.gauss_newton import GaussNewtonOperator, ResidualOperator
from lightning_hessian.hvp.loss_outputs import LossOutputs, find_outputs
from lightning_hessian.hvp.open_loss import open_loss
from lightning_hessian.hvp.output_cut import as_outputs
from lightning_hessian.hvp.per_batch import (
    AlongVectors,
    BatchGradients,
    PerBatch,
    per_batch_around,
    per_batch_products,
    sample_products,
)
from lightning_hessian.hvp.per_batch_operator import (
    SKETCH,
    CrossedForms,
    CrossedOperator,
    PerBatchOperator,
)
from lightning_hessian.hvp.sample_difference import SampleDifferenceOperator
from lightning_hessian.hvp.self_check import SelfCheck, compare_products
from lightning_hessian.hvp.silent_errors import refuse_silent_errors

__all__ = [
    "SKETCH",
    "AlongGradients",
    "AlongVectors",
    "BatchGradients",
    "CrossedForms",
    "CrossedOperator",
    "DifferenceProducts",
    "ExactProducts",
    "GaussNewtonOperator",
    "GraphTrust",
    "LossOutputs",
    "PerBatch",
    "PerBatchOperator",
    "Probes",
    "ProductChoice",
    "ResidualOperator",
    "SampleDifferenceOperator",
    "SelfCheck",
    "along_gradients",
    "as_outputs",
    "compare_products",
    "find_outputs",
    "open_loss",
    "per_batch_around",
    "per_batch_products",
    "refuse_silent_errors",
    "sample_products",
]
