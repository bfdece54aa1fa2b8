"""What can be asked for: each option spelled once, checked where it is given."""

from lightning_hessian.options.checks import check_choice, check_flag, refuse_auto_samples
from lightning_hessian.options.critical_point import PointOptions, WeightDecay, check_weight_decay
from lightning_hessian.options.loss import Loss
from lightning_hessian.options.loss_difference import DifferenceOptions, Perturbations, Surface
from lightning_hessian.options.loss_setup import LossSetup
from lightning_hessian.options.pyhessian import PyHessian
from lightning_hessian.options.solver import GIBIBYTE, Krylov, Solver
from lightning_hessian.options.spectrum import SpectrumOptions

__all__ = [
    "GIBIBYTE",
    "DifferenceOptions",
    "Krylov",
    "Loss",
    "LossSetup",
    "Perturbations",
    "PointOptions",
    "PyHessian",
    "Solver",
    "SpectrumOptions",
    "Surface",
    "WeightDecay",
    "check_choice",
    "check_flag",
    "check_weight_decay",
    "refuse_auto_samples",
]
