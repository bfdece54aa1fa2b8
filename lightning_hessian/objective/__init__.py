"""The training loss of a Lightning module as a pure function of its parameters."""

from lightning_hessian.objective.conducting import Conductor, conduct
from lightning_hessian.objective.difference_error import Probes
from lightning_hessian.objective.finite_difference import DifferencedLoss
from lightning_hessian.objective.gradient import Gradient
from lightning_hessian.objective.graph import no_second_derivative
from lightning_hessian.objective.loss import TrainingLoss
from lightning_hessian.objective.memory import SHARE, free_memory
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
from lightning_hessian.objective.steps.manual_optimization import CapturedLoss
from lightning_hessian.objective.steps.module_loss import module_loss

__all__ = [
    "DIFFERENCE_LIMIT",
    "SHARE",
    "BatchScatter",
    "CapturedLoss",
    "ColumnScatter",
    "Conductor",
    "DifferencedLoss",
    "Gradient",
    "Probes",
    "ProductScatter",
    "SampleLosses",
    "SelfCheck",
    "TrainingLoss",
    "batch_scatter",
    "compare_products",
    "conduct",
    "free_memory",
    "held_out_losses",
    "module_loss",
    "no_second_derivative",
    "refuse_silent_errors",
    "sample_losses",
    "sample_losses_at",
    "sample_products",
    "scattered_products",
]
