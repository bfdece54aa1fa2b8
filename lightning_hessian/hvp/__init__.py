"""Products of the loss's Hessian with vectors: exact ones, by differences, and by batch."""

from lightning_hessian.hvp.choice import ProductChoice
from lightning_hessian.hvp.difference_error import Probes
from lightning_hessian.hvp.differences import DifferenceProducts
from lightning_hessian.hvp.exact import ExactProducts, GraphTrust
from lightning_hessian.hvp.open_loss import open_loss
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
    "AlongVectors",
    "BatchGradients",
    "CrossedForms",
    "CrossedOperator",
    "DifferenceProducts",
    "ExactProducts",
    "GraphTrust",
    "PerBatch",
    "PerBatchOperator",
    "Probes",
    "ProductChoice",
    "SampleDifferenceOperator",
    "SelfCheck",
    "compare_products",
    "open_loss",
    "per_batch_around",
    "per_batch_products",
    "refuse_silent_errors",
    "sample_products",
]
