"""Products of the loss's Hessian with vectors: exact ones, by differences, and by batch."""

from lightning_hessian.hvp.hessian_operator import HessianOperator
from lightning_hessian.hvp.sample_difference import SampleDifferenceOperator
from lightning_hessian.hvp.scatter_operator import ScatterOperator

__all__ = [
    "HessianOperator",
    "SampleDifferenceOperator",
    "ScatterOperator",
]
