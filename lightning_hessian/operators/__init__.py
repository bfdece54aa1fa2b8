"""Symmetric matrix-free operators: what an estimator can be given."""

from lightning_hessian.operators.dense import DenseOperator
from lightning_hessian.operators.difference import SampleDifferenceOperator
from lightning_hessian.operators.hessian import HessianOperator

__all__ = ["DenseOperator", "HessianOperator", "SampleDifferenceOperator"]
