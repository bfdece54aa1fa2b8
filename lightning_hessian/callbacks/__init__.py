"""Lightning callbacks: a constructor and a study each, composed into hooks."""

from lightning_hessian.callbacks.both_namespaces import HostCallback
from lightning_hessian.callbacks.callback import MeasuringCallback
from lightning_hessian.callbacks.critical_point import CriticalPoint
from lightning_hessian.callbacks.loss_difference import LossDifference
from lightning_hessian.callbacks.spectrum import HessianSpectrum

__all__ = [
    "CriticalPoint",
    "HessianSpectrum",
    "HostCallback",
    "LossDifference",
    "MeasuringCallback",
]
