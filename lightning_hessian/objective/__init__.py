"""The training loss of a Lightning module as a pure function of its parameters."""

from lightning_hessian.objective.conducting import Conductor, conduct
from lightning_hessian.objective.loss import Gradient, TrainingLoss
from lightning_hessian.objective.manual_optimization import CapturedLoss
from lightning_hessian.objective.module_loss import module_loss
from lightning_hessian.objective.sandbox import Sandbox
from lightning_hessian.objective.self_check import SelfCheck, compare_products, refuse_silent_errors
from lightning_hessian.objective.training_data import training_data

__all__ = [
    "CapturedLoss",
    "Conductor",
    "Gradient",
    "Sandbox",
    "SelfCheck",
    "TrainingLoss",
    "compare_products",
    "conduct",
    "module_loss",
    "refuse_silent_errors",
    "training_data",
]
