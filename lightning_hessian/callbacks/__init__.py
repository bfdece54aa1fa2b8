"""Lightning callbacks: a constructor and a study each, composed into hooks."""

from lightning_hessian.callbacks.both_namespaces import HostCallback
from lightning_hessian.callbacks.callback import MeasuringCallback
from lightning_hessian.callbacks.loss_difference import LossDifference
from lightning_hessian.callbacks.spectrum import HessianSpectrum

__all__ = ["HessianSpectrum", "HostCallback", "LossDifference", "MeasuringCallback"]
