"""Other libraries' own numbers for the same training loss."""

from lightning_hessian.engines.known_differences import KNOWN_DIFFERENCES
from lightning_hessian.engines.pyhessian import pyhessian_spectrum

__all__ = [
    "KNOWN_DIFFERENCES",
    "pyhessian_spectrum",
]
