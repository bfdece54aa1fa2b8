"""The training loss of a Lightning module as a pure function of its parameters."""

from lightning_hessian.objective.difference_error import Probes
from lightning_hessian.objective.finite_difference import DifferencedLoss
from lightning_hessian.objective.samples.product_scatter import (
    ColumnScatter,
    ProductScatter,
    scattered_products,
)
from lightning_hessian.objective.samples.sample_losses import (
    SampleLosses,
    held_out_losses,
    sample_losses,
    sample_losses_at,
)
from lightning_hessian.objective.samples.scatter import BatchScatter, batch_scatter, sample_products
from lightning_hessian.objective.self_check import (
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
    "Probes",
    "ProductScatter",
    "SampleLosses",
    "SelfCheck",
    "batch_scatter",
    "compare_products",
    "held_out_losses",
    "refuse_silent_errors",
    "sample_losses",
    "sample_losses_at",
    "sample_products",
    "scattered_products",
]
