"""Lightning callbacks: when to measure, what, and where it goes."""

from lightning_hessian.callbacks.both_namespaces import HostCallback
from lightning_hessian.callbacks.loss_difference import LossDifference
from lightning_hessian.callbacks.measuring import Measuring
from lightning_hessian.callbacks.spectrum import HessianSpectrum

__all__ = [
    "HessianSpectrum",
    "HostCallback",
    "LossDifference",
    "Measuring",
]
