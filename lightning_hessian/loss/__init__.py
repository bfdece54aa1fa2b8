"""The training loss of a Lightning module over the frozen batches, as a function of its parameters."""

from lightning_hessian.loss.conductor import Conductor, conduct
from lightning_hessian.loss.gradient import Gradient
from lightning_hessian.loss.graph import (
    is_custom,
    no_second_derivative,
    node_names,
    once_differentiable_functions,
    second_derivatives,
)
from lightning_hessian.loss.graph_memory import SHARE, free_memory
from lightning_hessian.loss.manual_optimization import CapturedLoss
from lightning_hessian.loss.module_loss import module_loss
from lightning_hessian.loss.parameters import ParameterSelection
from lightning_hessian.loss.training_loss import TrainingLoss

__all__ = [
    "SHARE",
    "CapturedLoss",
    "Conductor",
    "Gradient",
    "ParameterSelection",
    "TrainingLoss",
    "conduct",
    "free_memory",
    "is_custom",
    "module_loss",
    "no_second_derivative",
    "node_names",
    "once_differentiable_functions",
    "second_derivatives",
]
