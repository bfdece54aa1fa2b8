"""What combines losses, products and estimators into an answer to a question."""

from lightning_hessian.studies.order_statistics import order_statistics
from lightning_hessian.studies.random_orders import difference_along, simulate_orders

__all__ = ["difference_along", "order_statistics", "simulate_orders"]
