"""pyro: stochastic variational inference; the evidence bound is drawn anew in every step."""

from __future__ import annotations

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from pyro.nn import PyroModule, PyroSample
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from examples.compatibility.case import Case
from examples.compatibility.own_module import OwnModule
from lightning_hessian import Krylov

INPUTS = torch.randn(16, 2, generator=torch.Generator().manual_seed(0))
TARGETS = INPUTS @ torch.tensor([1.0, -0.5])


class Regression(PyroModule):
    """Bayesian linear regression."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = PyroSample(dist.Normal(0.0, 1.0).expand([2]).to_event(1))

    def forward(self, inputs: Tensor, targets: Tensor) -> None:
        """The rows of a batch stand for all sixteen."""
        means = inputs @ self.weight  # drawn once for all rows
        with pyro.plate("rows", 16, subsample_size=len(inputs)):
            pyro.sample("targets", dist.Normal(means, 0.5), obs=targets)


def batch_loss(bound: Any, batch: list[Tensor]) -> Tensor:
    """Negative evidence bound, for each row."""
    return bound(*batch) / 16


def train(callbacks: list[Any]) -> OwnModule:
    """A mean-field guide; parameters of an earlier training are forgotten."""
    pyro.clear_param_store()
    model = Regression()
    guide = AutoNormal(model)
    bound = Trace_ELBO()(model, guide)
    bound(INPUTS, TARGETS)  # the guide makes its parameters at its first call
    loader = DataLoader(TensorDataset(INPUTS, TARGETS), batch_size=4, shuffle=True)
    return OwnModule(bound, batch_loss).fitted(loader, callbacks)


CASE = Case("SVI, noise in the step", train, options={"solver": Krylov(max_hvps=100)})
