"""Lightning callbacks: a constructor and a study each, composed into hooks."""

from lightning_hessian.callbacks.both_namespaces import HostCallback
from lightning_hessian.callbacks.callback import MeasuringCallback
from lightning_hessian.callbacks.critical_point import CriticalPoint
from lightning_hessian.callbacks.loss_difference import LossDifference
from lightning_hessian.callbacks.refusals import (
    HAS_EVERY_PARSER,
    refuse,
    refuse_wrong_options,
)
from lightning_hessian.callbacks.spectrum import HessianSpectrum

__all__ = [
    "HAS_EVERY_PARSER",
    "CriticalPoint",
    "HessianSpectrum",
    "HostCallback",
    "LossDifference",
    "MeasuringCallback",
    "refuse",
    "refuse_wrong_options",
]
