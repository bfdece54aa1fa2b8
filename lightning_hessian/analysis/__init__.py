"""The same measurement on checkpoints that exist already."""

from lightning_hessian.analysis.at_checkpoint import at_checkpoint
from lightning_hessian.analysis.files import Paths, find_checkpoints, read_checkpoint
from lightning_hessian.analysis.precautions import check_file
from lightning_hessian.analysis.run import analyze
from lightning_hessian.analysis.search import search

__all__ = [
    "Paths",
    "analyze",
    "at_checkpoint",
    "check_file",
    "find_checkpoints",
    "read_checkpoint",
    "search",
]
