"""Symmetric matrix-free operators: what an estimator can be given."""

from lightning_hessian.operators.block import BlockOperator
from lightning_hessian.operators.dense import DenseOperator
from lightning_hessian.operators.difference import SampleDifferenceOperator
from lightning_hessian.operators.hessian import HessianOperator
from lightning_hessian.operators.scatter import ScatterOperator

__all__ = [
    "BlockOperator",
    "DenseOperator",
    "HessianOperator",
    "SampleDifferenceOperator",
    "ScatterOperator",
]
