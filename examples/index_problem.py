"""The task of Pennington and Bahri (2017): random targets, learnt by heart by a small tanh network.

As many inputs as hidden units as outputs, no biases, squared error.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_hessian.hvp import open_loss
from lightning_hessian.loss import TrainingLoss


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """Random regression, for networks ``V tanh(U x)`` of any width ``k``.

    Weights are flat, ``U`` ``(k, n)`` before ``V`` ``(n, k)``, in float64.

    Attributes:
        inputs: ``(m, n)``, normal.
        targets: ``(m, n)``, normal.
    """

    inputs: Tensor
    targets: Tensor

    @classmethod
    def drawn(cls, size: int, samples: int, seed: int) -> Task:
        """Of ``size`` inputs and outputs, ``n``, and so many samples, ``m``."""
        generator = torch.Generator().manual_seed(seed)
        inputs, targets = torch.randn(2, samples, size, generator=generator, dtype=torch.float64)
        return cls(inputs, targets)

    @property
    def size(self) -> int:
        """Of inputs, outputs, and the hidden layer of the widest network, ``n``."""
        return self.inputs.shape[1]

    @property
    def num_parameters(self) -> int:
        """Of the widest network, ``2 n^2``."""
        return 2 * self.size**2

    @property
    def ratio(self) -> float:
        """``phi = 2 n / m``, parameters over numbers to be learnt."""
        return self.num_parameters / self.targets.numel()

    def network(self, weights: Tensor) -> nn.Sequential:
        """A module with these weights; their number tells its width."""
        n, width = self.size, self._width(weights)
        first = nn.Linear(n, width, bias=False, dtype=torch.float64)
        last = nn.Linear(width, n, bias=False, dtype=torch.float64)
        into, out = weights.detach().clone().split([n * width, n * width])
        first.weight.data, last.weight.data = into.view(width, n), out.view(n, width)
        return nn.Sequential(first, nn.Tanh(), last)

    def energy(self, weights: Tensor) -> Tensor:
        """``epsilon``, half the mean squared error over samples and outputs."""
        n, width = self.size, self._width(weights)
        into, out = weights.split([n * width, n * width])
        hidden = torch.tanh(self.inputs @ into.view(width, n).T)
        return F.mse_loss(hidden @ out.view(n, width).T, self.targets) / 2

    def derivatives(self, weights: Tensor, decay: float) -> tuple[Tensor, Tensor]:
        """Gradient ``(p,)`` and Hessian ``(p, p)`` of ``2 epsilon + decay |w|^2 / 2``."""
        point = weights.detach().requires_grad_()
        loss = 2 * self.energy(point) + decay / 2 * point.square().sum()
        (slope,) = torch.autograd.grad(loss, point, create_graph=True)
        every = torch.eye(len(point), dtype=point.dtype, device=point.device)
        (hessian,) = torch.autograd.grad(slope, point, every, is_grads_batched=True)
        return slope.detach(), (hessian + hessian.T) / 2

    @contextmanager
    def opened(self, weights: Tensor) -> Iterator[TrainingLoss]:
        """``2 epsilon``, which is PyTorch's ``MSELoss``, as a loss of the package's, in float64."""
        network = self.network(weights)

        def batch_loss(batch: tuple[Tensor, Tensor], _: int) -> Tensor:
            return F.mse_loss(network(batch[0]), batch[1])

        batch = (self.inputs, self.targets)
        with open_loss(network, batch_loss, [batch], dtype=torch.float64) as loss:
            yield loss

    def _width(self, weights: Tensor) -> int:
        return len(weights) // (2 * self.size)
