"""The same measurement on checkpoints that exist already."""

from lightning_hessian.analysis.files import read_checkpoint
from lightning_hessian.analysis.run import analyze

__all__ = [
    "analyze",
    "read_checkpoint",
]
