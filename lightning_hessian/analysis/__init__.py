"""The same measurement on checkpoints that exist already."""

from lightning_hessian.analysis.run import analyze

__all__ = ["analyze"]
