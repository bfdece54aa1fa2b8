"""A likelihood whose own backward has a wrong second derivative is measured all the same."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_hessian import HessianSpectrum, Loss
from tests.helpers.fitting import trainer

COUNT = 16


class NegativeLogLikelihood(torch.autograd.Function):
    """``(y' K^-1 y + log |K|) / 2``, with the gradient in closed form of what it has saved.

    Libraries of Gaussian processes write it so: to autograd, the saved inverse is a constant.
    """

    @staticmethod
    def forward(ctx: Any, covariance: Tensor, targets: Tensor) -> Tensor:
        inverse = torch.linalg.inv(covariance)
        ctx.inverse, ctx.solution = inverse.detach(), (inverse @ targets).detach()
        return (targets @ ctx.solution + torch.logdet(covariance)) / 2

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        by_covariance = (ctx.inverse - torch.outer(ctx.solution, ctx.solution)) / 2
        return grad * by_covariance, grad * ctx.solution


def covariance_of(raw: Tensor, inputs: Tensor) -> Tensor:
    """An RBF kernel and noise, by raw parameters: noise, scale, length."""
    noise, scale, length = F.softplus(raw)
    distances = (inputs - inputs.T).square()
    return scale * torch.exp(-distances / (2 * length**2)) + noise * torch.eye(COUNT).to(inputs)


class Process(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.raw = nn.Parameter(torch.zeros(3))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        inputs, targets = batch
        covariance = covariance_of(self.raw, inputs)
        loss: Tensor = NegativeLogLikelihood.apply(covariance, targets) / COUNT
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def test_the_hessian_is_that_of_the_likelihood_not_of_its_backward() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(COUNT, 1, generator=generator)
    targets = torch.sin(6 * inputs[:, 0]) + 0.1 * torch.randn(COUNT, generator=generator)

    def likelihood(raw: Tensor) -> Tensor:
        normal = torch.distributions.MultivariateNormal(
            torch.zeros(COUNT).double(), covariance_of(raw, inputs.double())
        )
        return -normal.log_prob(targets.double()) / COUNT

    dense = torch.autograd.functional.hessian(likelihood, torch.zeros(3).double())
    callback = HessianSpectrum(
        mode="train",
        loss=Loss(dataloader=[[inputs, targets]]),
        max_overhead=None,
        every_n_epochs=None,
    )
    data = DataLoader(TensorDataset(inputs, targets), batch_size=COUNT)
    trainer(callback, max_steps=1).fit(Process(), data)
    report = callback.reports[0]
    assert report.failure is None
    assert report.products.method == "finite_difference"
    largest = torch.linalg.eigvalsh(dense).flip(0)[: len(report.largest.values)]
    # float32's own rounding in differences of gradients
    torch.testing.assert_close(
        torch.as_tensor(report.largest.values).double(), largest, rtol=1e-3, atol=1e-4
    )
