"""Lightning callbacks: when to measure, what, and where it goes."""

from lightning_hessian.callbacks.spectrum import HessianSpectrum

__all__ = ["HessianSpectrum"]
