"""A network with one hidden layer of tanh and no biases: its outputs' derivatives by hand."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tests.helpers.networks import Criterion, Supervised


@dataclass(frozen=True, eq=False)
class TanhNetwork:
    """``z = V tanh(W x)`` of samples ``x``, weights in the order ``W``, ``V``, all in float64."""

    inner: Tensor  # (h, d)
    outer: Tensor  # (k, h)
    inputs: Tensor  # (N, d)

    @classmethod
    def random(cls, count: int, inputs: int, hidden: int, outputs: int) -> TanhNetwork:
        """Of normal weights and samples."""
        generator = torch.Generator().manual_seed(count + hidden)
        shapes = ((hidden, inputs), (outputs, hidden), (count, inputs))
        return cls(*(torch.randn(*s, generator=generator, dtype=torch.float64) for s in shapes))

    @property
    def hidden(self) -> Tensor:
        """``(N, h)``."""
        return torch.tanh(self.inputs @ self.inner.T)

    @property
    def outputs(self) -> Tensor:
        """``(N, k)``."""
        return self.hidden @ self.outer.T

    @property
    def size(self) -> int:
        """Number of weights."""
        return self.inner.numel() + self.outer.numel()

    def module(self, criterion: Criterion) -> Supervised:
        """The same as a module to be trained."""
        (h, d), k = self.inner.shape, len(self.outer)
        network = nn.Sequential(
            nn.Linear(d, h, bias=False), nn.Tanh(), nn.Linear(h, k, bias=False)
        ).double()
        with torch.no_grad():
            network[0].weight.copy_(self.inner)
            network[2].weight.copy_(self.outer)
        return Supervised(network, criterion)

    def jacobian(self) -> Tensor:
        """``(N, k, n)``: ``dz_k/dW_ji = V_kj (1 - h_j^2) x_i``, ``dz_k/dV_lj = h_j`` for l = k."""
        slope = 1 - self.hidden**2
        by_inner = torch.einsum("kj,nj,ni->nkji", self.outer, slope, self.inputs)
        by_outer = torch.einsum("kl,nj->nklj", torch.eye(len(self.outer)).double(), self.hidden)
        return torch.cat([by_inner.flatten(2), by_outer.flatten(2)], dim=2)

    def curvature(self, slopes: Tensor) -> Tensor:
        """``(n, n)`` ``sum_nk slopes_nk d^2 z_nk``: the residual part, of ``slopes = dl/dz``."""
        h, x, (hidden, inputs) = self.hidden, self.inputs, self.inner.shape
        bend = -2 * h * (1 - h**2)
        same = torch.einsum("nk,kj,nj,ni,nm->jim", slopes, self.outer, bend, x, x)
        inner = torch.einsum("jl,jim->jilm", torch.eye(hidden).double(), same)
        mixed = torch.einsum("nk,nj,ni->kji", slopes, 1 - h**2, x)
        across = torch.einsum("jl,kji->jikl", torch.eye(hidden).double(), mixed)
        first, second = hidden * inputs, self.outer.numel()
        full = torch.zeros(self.size, self.size, dtype=torch.float64)
        full[:first, :first] = inner.reshape(first, first)
        full[:first, first:] = across.reshape(first, second)
        full[first:, :first] = full[:first, first:].T
        return full
