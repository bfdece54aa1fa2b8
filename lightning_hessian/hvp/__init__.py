"""Products of the training loss's Hessian with vectors: exact ones, differences of gradients, and by batch."""

from lightning_hessian.hvp.hessian_operator import HessianOperator, check_block
from lightning_hessian.hvp.sample_difference import SampleDifferenceOperator
from lightning_hessian.hvp.scatter_operator import ScatterOperator

__all__ = [
    "HessianOperator",
    "SampleDifferenceOperator",
    "ScatterOperator",
    "check_block",
]
