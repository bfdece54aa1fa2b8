"""The training loss of a module over the frozen batches, as a function of its parameters."""

from lightning_hessian.loss.conductor import Conductor, measure_on_first
from lightning_hessian.loss.gradient import Gradient
from lightning_hessian.loss.graph import (
    is_custom,
    node_names,
    once_differentiable_functions,
    second_derivatives,
    told_of_missing_derivatives,
)
from lightning_hessian.loss.graph_memory import (
    SHARE,
    free_memory,
    graph_bytes,
    host_memory,
    tensors_in,
)
from lightning_hessian.loss.kept_graphs import FirstDerivatives, KeptGraphs
from lightning_hessian.loss.manual_optimization import ManualBackwardLoss
from lightning_hessian.loss.module_loss import OWN_LOSS, module_loss
from lightning_hessian.loss.parameters import ParameterSelection
from lightning_hessian.loss.products import LossProducts, Products
from lightning_hessian.loss.trained import Clipping, Trained, as_outside
from lightning_hessian.loss.training_loss import TrainingLoss

__all__ = [
    "OWN_LOSS",
    "SHARE",
    "Clipping",
    "Conductor",
    "FirstDerivatives",
    "Gradient",
    "KeptGraphs",
    "LossProducts",
    "ManualBackwardLoss",
    "ParameterSelection",
    "Products",
    "Trained",
    "TrainingLoss",
    "as_outside",
    "free_memory",
    "graph_bytes",
    "host_memory",
    "is_custom",
    "measure_on_first",
    "module_loss",
    "node_names",
    "once_differentiable_functions",
    "second_derivatives",
    "tensors_in",
    "told_of_missing_derivatives",
]
