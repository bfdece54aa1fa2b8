"""Products of the loss's Hessian with vectors: exact ones, by differences, and by batch."""

from lightning_hessian.hvp.batch_scatter import BatchScatter, batch_scatter, sample_products
from lightning_hessian.hvp.choice import ProductChoice
from lightning_hessian.hvp.difference_error import Probes
from lightning_hessian.hvp.differences import DifferencedLoss
from lightning_hessian.hvp.hessian_operator import HessianOperator
from lightning_hessian.hvp.product_scatter import ColumnScatter, ProductScatter, scattered_products
from lightning_hessian.hvp.sample_difference import SampleDifferenceOperator
from lightning_hessian.hvp.scatter_operator import ScatterOperator
from lightning_hessian.hvp.self_check import (
    DIFFERENCE_LIMIT,
    SelfCheck,
    compare_products,
    refuse_silent_errors,
)

__all__ = [
    "DIFFERENCE_LIMIT",
    "BatchScatter",
    "ColumnScatter",
    "DifferencedLoss",
    "HessianOperator",
    "Probes",
    "ProductChoice",
    "ProductScatter",
    "SampleDifferenceOperator",
    "ScatterOperator",
    "SelfCheck",
    "batch_scatter",
    "compare_products",
    "refuse_silent_errors",
    "sample_products",
    "scattered_products",
]
