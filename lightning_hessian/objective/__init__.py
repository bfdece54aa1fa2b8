"""The training loss of a Lightning module as a pure function of its parameters."""

from lightning_hessian.objective.conducting import Conductor, conduct
from lightning_hessian.objective.loss import Gradient, TrainingLoss
from lightning_hessian.objective.sandbox import Sandbox
from lightning_hessian.objective.self_check import SelfCheck, compare_products, refuse_silent_errors
from lightning_hessian.objective.training_data import training_data
from lightning_hessian.objective.training_step import TrainingStep

__all__ = [
    "Conductor",
    "Gradient",
    "Sandbox",
    "SelfCheck",
    "TrainingLoss",
    "TrainingStep",
    "compare_products",
    "conduct",
    "refuse_silent_errors",
    "training_data",
]
