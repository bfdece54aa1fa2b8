"""Samples whose losses are quadratic in the weights: everything about them has a closed form."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from lightning_hessian.studies.batch_moments import BatchMoments


@dataclass(frozen=True)
class Quadratics:
    """``l_i(w + delta) = losses_i + gradients_i . delta + delta . hessians_i delta / 2``."""

    losses: Tensor
    gradients: Tensor
    hessians: Tensor

    @classmethod
    def random(cls, count: int, size: int, *, seed: int = 0, spread: float = 1.0) -> Quadratics:
        """Like a regression's: a Hessian of rank one with a common direction, and a residual."""
        generator = torch.Generator().manual_seed(seed)
        scale = torch.linspace(3, 1, size, dtype=torch.float64)
        inputs = torch.randn(count, size, generator=generator, dtype=torch.float64) * scale
        inputs[:, 0] += 2
        noise = torch.randn(count, generator=generator, dtype=torch.float64)
        residual = inputs @ torch.ones(size, dtype=torch.float64) * 0.1 + spread * noise
        other = torch.randn(count, size, size, generator=generator, dtype=torch.float64) / size**0.5
        hessians = inputs[:, :, None] * inputs[:, None] + other + other.transpose(1, 2)
        return cls(0.5 * residual**2, residual[:, None] * inputs, hessians)

    @cached_property
    def moments(self) -> Tensor:
        """``S_g^2``, ``S_H^2``, ``Cov(l, tr H)``, ``Var tr H``, from every sample alone."""
        traces = self.hessians.diagonal(dim1=1, dim2=2).sum(dim=1)
        count = len(self.losses)
        gradients = self.gradients - self.gradients.mean(dim=0)
        hessians = self.hessians - self.hessians.mean(dim=0)
        both = torch.cov(torch.stack([self.losses, traces]))
        return torch.stack(
            [
                gradients.square().sum() / (count - 1),
                hessians.square().sum() / (count - 1),
                both[0, 1],
                both[1, 1],
            ]
        )

    def variance(self, sigma: float) -> float:
        """``V(sigma)``: ``E |a + g.d + d.H d / 2|^2`` of centred ``a, g, H`` for Gaussian ``d``.

        Odd moments vanish, ``E d_i d_j = sigma^2`` for ``i = j``, and by Isserlis' theorem
        ``E (d.H d)^2 = sigma^4 (2 ||H||_F^2 + (tr H)^2)``, ``E d.H d = sigma^2 tr H``.
        """
        gradient, hessian, covariance, trace = self.moments.tolist()
        linear = sigma**2 * (gradient + covariance)
        return float(self.losses.var()) + linear + sigma**4 / 4 * (trace + 2 * hessian)

    def at(self, displacement: Tensor) -> Tensor:
        """``(N,)`` losses at ``w + displacement``."""
        curved = torch.einsum("bnm,n,m->b", self.hessians, displacement, displacement)
        return self.losses + self.gradients @ displacement + 0.5 * curved

    def within(self, basis: Tensor) -> Quadratics:
        """The same samples as functions of the coordinates along the columns of ``basis``."""
        return Quadratics(self.losses, self.gradients @ basis, basis.T @ self.hessians @ basis)

    def batches(self, sizes: list[int], *, generator: torch.Generator) -> list[Tensor]:
        """Positions of all samples, dealt at random into batches of these sizes."""
        order = torch.randperm(len(self.losses), generator=generator)
        return list(order.split(sizes))

    def deviations(
        self, groups: list[Tensor], probes: Tensor, basis: Tensor | None = None
    ) -> BatchMoments:
        """Of batches, by dense matrices; what the basis does not hold is seen through probes."""
        means = [
            torch.stack([x[g].mean(dim=0) for g in groups])
            for x in (self.losses, self.gradients, self.hessians)
        ]
        losses, gradients, hessians = means
        off = hessians - self.hessians.mean(dim=0)
        known = torch.empty(len(probes), 0, dtype=torch.float64) if basis is None else basis
        rest = probes - known @ (known.T @ probes)
        return BatchMoments(
            num_samples=torch.tensor([len(g) for g in groups], dtype=torch.float64),
            losses=losses,
            gradients=(gradients - self.gradients.mean(dim=0)).square().sum(dim=1),
            hessians=(off @ known).square().sum(dim=(1, 2)),
            hessian_probes=(off @ rest).square().sum(dim=1),
            traces=torch.einsum("nd,bnm,md->b", known, hessians, known),
            trace_probes=torch.einsum("np,bnm,mp->bp", rest, hessians, rest),
        )

    def module_and_data(self, weights: Tensor) -> tuple[pl.LightningModule, TensorDataset]:
        """A module at these weights whose loss over the data has these expansions there."""
        curved = torch.einsum("bnm,m->bn", self.hessians, weights)
        slopes = self.gradients - curved
        constants = self.losses - self.gradients @ weights + 0.5 * curved @ weights
        return QuadraticModule(weights), TensorDataset(constants, slopes, self.hessians)


class QuadraticModule(pl.LightningModule):
    """The mean over samples of ``c + b.w + w.A w / 2``."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights.float())

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        constants, slopes, curvatures = (x.to(self.weights.dtype) for x in batch)
        curved = torch.einsum("bnm,n,m->b", curvatures, self.weights, self.weights)
        return (constants + slopes @ self.weights + 0.5 * curved).mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)
