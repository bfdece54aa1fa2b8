"""What can be asked for: each option spelled once, checked where it is given."""

from lightning_hessian.options.loss import LossOptions, SweepPrecision
from lightning_hessian.options.loss_difference import DifferenceOptions, Plane
from lightning_hessian.options.pyhessian import PyHessianOptions
from lightning_hessian.options.spectrum import SpectrumOptions

__all__ = [
    "DifferenceOptions",
    "LossOptions",
    "Plane",
    "PyHessianOptions",
    "SpectrumOptions",
    "SweepPrecision",
]
