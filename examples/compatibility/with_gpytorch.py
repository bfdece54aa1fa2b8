"""gpytorch: an exact Gaussian process, whose loss is no mean over samples."""

from __future__ import annotations

import math
from typing import Any

import gpytorch
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from examples.compatibility.case import Case
from examples.compatibility.own_module import OwnModule
from lightning_hessian import Loss

INPUTS = torch.linspace(0, 1, 24)
TARGETS = torch.sin(6 * INPUTS) + 0.1 * torch.cos(40 * INPUTS)


class Process(gpytorch.models.ExactGP):
    """A constant mean and a scaled squared exponential."""

    def __init__(self, likelihood: Any) -> None:
        super().__init__(INPUTS, TARGETS, likelihood)
        self.mean_module = gpytorch.means.ConstantMean()
        self.covar_module = gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel())

    def forward(self, inputs: Tensor) -> Any:
        """The prior at some inputs."""
        mean, covariance = self.mean_module(inputs), self.covar_module(inputs)
        return gpytorch.distributions.MultivariateNormal(mean, covariance)


# all rows at once and in their order, as an exact process asks for
LOADER = DataLoader(TensorDataset(INPUTS, TARGETS), batch_size=24)


def batch_loss(process: Process, batch: list[Tensor]) -> Tensor:
    """The negative marginal log likelihood."""
    likelihood = gpytorch.mlls.ExactMarginalLogLikelihood(process.likelihood, process)
    return -likelihood(process(batch[0]), batch[1])


def train(callbacks: list[Any]) -> OwnModule:
    """A step."""
    process = Process(gpytorch.likelihoods.GaussianLikelihood())
    return OwnModule(process, batch_loss).fitted(LOADER, callbacks)


def loss(module: OwnModule) -> Tensor:
    """The negative log density of the targets, for each of them."""
    process, rows = module.network, INPUTS.double()
    distances = (rows[:, None] - rows) / process.covar_module.base_kernel.lengthscale
    covariance = process.covar_module.outputscale * torch.exp(-0.5 * distances**2)
    noise = process.likelihood.noise * torch.eye(24, dtype=torch.float64)
    off = TARGETS.double() - process.mean_module.constant
    factor = torch.linalg.cholesky(covariance + noise)
    whitened = torch.linalg.solve_triangular(factor, off[:, None], upper=False)
    log_density = -0.5 * whitened.square().sum() - factor.diagonal().log().sum()
    return -(log_density - 12 * math.log(2 * math.pi)) / 24


OPTIONS = {"mode": "train", "loss": Loss(dataloader=[[INPUTS, TARGETS]])}
CASE = Case("an exact Gaussian process", train, loss, OPTIONS)
