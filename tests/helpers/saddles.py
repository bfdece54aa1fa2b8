"""Exact critical points: minima of narrow networks, made wider by units that do nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_hessian.hvp import open_loss
from lightning_hessian.loss import TrainingLoss


class Weights(nn.Module):
    """Nothing but a flat vector of parameters."""

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.values = nn.Parameter(values.clone())


@dataclass(frozen=True)
class Problem:
    """Random regression, for networks ``V tanh(W x)`` without biases and their weight decay."""

    inputs: Tensor
    targets: Tensor
    decay: float

    @classmethod
    def of(cls, seed: int, *, size: int, samples: int, decay: float) -> Problem:
        generator = torch.Generator().manual_seed(seed)
        draws = torch.randn(2, samples, size, generator=generator, dtype=torch.float64)
        return cls(draws[0], draws[1], decay)

    @property
    def size(self) -> int:
        return self.inputs.shape[1]

    def loss(self, weights: Tensor, width: int) -> Tensor:
        """Mean squared error, and half the decay of the squared weights."""
        into, out = weights.reshape(2, width, self.size)
        outputs = torch.tanh(self.inputs @ into.T) @ out
        return (outputs - self.targets).square().mean() + self.decay / 2 * weights.square().sum()

    @contextmanager
    def open(self, weights: Tensor, **options: Any) -> Iterator[TrainingLoss]:
        """Mean squared error alone, of a module that holds nothing but the weights."""
        module, width = Weights(weights), len(weights) // (2 * self.size)

        def step(_batch: Any, _index: int) -> Tensor:
            values = module.values
            return self.loss(values, width) - self.decay / 2 * values.square().sum()

        with open_loss(module, step, [torch.zeros(1)], dtype=torch.float64, **options) as loss:
            yield loss

    def derivatives(self, weights: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """Gradient and Hessian."""
        point = weights.detach().requires_grad_()
        (slope,) = torch.autograd.grad(self.loss(point, width), point, create_graph=True)
        every = torch.eye(len(weights), dtype=weights.dtype)
        (hessian,) = torch.autograd.grad(slope, point, every, is_grads_batched=True)
        return slope.detach(), hessian

    def minimum(self, width: int, seed: int = 0) -> Tensor:
        """Of a narrow network, by damped Newton steps until the gradient is rounding."""
        generator = torch.Generator().manual_seed(seed)
        weights = 0.5 * torch.randn(2 * width * self.size, generator=generator, dtype=torch.float64)
        damping = 0.1
        for _ in range(500 if width else 0):
            gradient, hessian = self.derivatives(weights, width)
            if float(gradient.norm()) < 1e-13:
                break
            values, vectors = torch.linalg.eigh(hessian)
            step = vectors @ (vectors.T @ gradient / (values.abs() + damping))
            is_lower = self.loss(weights - step, width) <= self.loss(weights, width)
            weights = weights - step if is_lower or damping < 1e-12 else weights
            damping = damping / 3 if is_lower else 4 * damping
        return weights

    def widened(self, weights: Tensor, width: int, to: int) -> Tensor:
        """The same function with units whose weights are all zero."""
        parts = weights.reshape(2, width, self.size)
        wide = torch.zeros(2, to, self.size, dtype=torch.float64)
        wide[:, :width] = parts
        return wide.flatten()

    def dead_unit_spectrum(self, weights: Tensor, width: int) -> Tensor:
        """Of the block that one such unit adds: ``decay +- sigma`` of outputs' errors by inputs."""
        into, out = weights.reshape(2, width, self.size)
        errors = torch.tanh(self.inputs @ into.T) @ out - self.targets
        moment = (2 * errors / self.size).T @ self.inputs / len(self.inputs)
        scales = torch.linalg.svdvals(moment)
        return torch.cat([self.decay + scales, self.decay - scales])


class TanhNet(pl.LightningModule):
    """``V tanh(W x)`` at given weights; the decay is left to the optimiser."""

    def __init__(self, problem: Problem, weights: Tensor, width: int) -> None:
        super().__init__()
        parts = weights.reshape(2, width, problem.size)
        self.into = nn.Linear(problem.size, width, bias=False, dtype=torch.float64)
        self.out = nn.Linear(width, problem.size, bias=False, dtype=torch.float64)
        self.into.weight.data = parts[0].clone()
        self.out.weight.data = parts[1].T.contiguous()
        self.decay = problem.decay
        self.problem = problem

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        inputs, targets = batch
        return nn.functional.mse_loss(self.out(torch.tanh(self.into(inputs))), targets)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1e-3, weight_decay=self.decay)

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(
            TensorDataset(self.problem.inputs, self.problem.targets),
            batch_size=len(self.problem.inputs),
        )
