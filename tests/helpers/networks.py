"""Small networks of every kind, and their loss's Hessian by a route that is not the package's."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from itertools import pairwise
from typing import Any, TypeVar

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vmap
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import TensorDataset

from lightning_hessian import HessianSpectrum, SpectrumReport
from lightning_hessian.fit import FitLoss
from lightning_hessian.loss import TrainingLoss
from lightning_hessian.options import LossSetup
from tests.helpers.fitting import loader, trainer
from tests.helpers.setups import loss_setup

Criterion = Callable[[Tensor, Tensor], Tensor]
T = TypeVar("T")


class Supervised(pl.LightningModule):
    """A network under any criterion that is a mean over samples, trained by SGD with momentum."""

    def __init__(
        self, network: nn.Module, criterion: Criterion = F.cross_entropy, lr: float = 0.05
    ) -> None:
        super().__init__()
        self.network = network
        self.criterion = criterion
        self.lr = lr

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        inputs, targets = batch
        return self.criterion(self.network(inputs), targets)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)


class AtStartOnly(HessianSpectrum):
    """Spares the tests the second measurement, which every fit makes at its end."""

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Do nothing."""


def measured(
    module: pl.LightningModule, data: Any, *, batch_size: int = 8, **options: Any
) -> SpectrumReport:
    """The callback's report on all of ``data`` at the module's present weights, which stay."""
    callback = AtStartOnly(num_samples="all", max_overhead=None, on_error="raise", **options)
    fitted = copy.deepcopy(module)
    trainer(callback, max_steps=1).fit(fitted, loader(data, batch_size=batch_size))
    return callback.reports[0]


class Ask(pl.Callback):
    """Opens the objective at the start of a fit, as the callbacks do, and asks it one question."""

    def __init__(self, question: Callable[[TrainingLoss], Any], setup: LossSetup) -> None:
        self._question = question
        self._setup = setup
        self.answer: Any = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        with FitLoss(self._setup, trainer, pl_module).opened() as loss:
            self.answer = self._question(loss)


def ask(
    module: pl.LightningModule,
    data: TensorDataset,
    question: Callable[[TrainingLoss], T],
    *,
    batch_size: int = 8,
    precision: int = 64,
    **options: Any,
) -> T:
    """The answer of the training loss over ``data``, in batches of ``batch_size``, in a real fit.

    The module's weights are as before, since the one step of the fit is taken by a copy.
    """
    setup = loss_setup(batch_size=batch_size, precision=precision, **options)
    callback = Ask(question, setup)
    trainer(callback, max_steps=1).fit(copy.deepcopy(module), loader(data))
    answer: T = callback.answer
    return answer


def dense_hessian(module: Supervised, data: TensorDataset) -> Tensor:
    """``(n, n)`` float64, all data in one batch, by ``torch.func`` on a functional copy.

    Forward over reverse mode under vmap, where the package uses reverse over reverse on the real
    parameters, batch by batch.
    """
    network = copy.deepcopy(module.network).double().eval()
    inputs, targets = data.tensors
    inputs = inputs.double() if inputs.is_floating_point() else inputs
    targets = targets.double() if targets.is_floating_point() else targets
    wanted = {k: p for k, p in network.named_parameters() if p.requires_grad}
    shapes = {k: p.shape for k, p in wanted.items()}
    flat = torch.cat([p.detach().reshape(-1) for p in wanted.values()])

    def loss(vector: Tensor) -> Tensor:
        pieces = vector.split([s.numel() for s in shapes.values()])
        named = {k: x.view(s) for (k, s), x in zip(shapes.items(), pieces, strict=True)}
        return module.criterion(functional_call(network, named, (inputs,)), targets)

    with sdpa_kernel(SDPBackend.MATH), warnings.catch_warnings():
        # the first `jvp` imports code that `torch.jit.script` compiles, which is deprecated
        warnings.simplefilter("ignore", DeprecationWarning)
        columns = vmap(lambda v: jvp(grad(loss), (flat,), (v,))[1], chunk_size=64)
        dense: Tensor = columns(torch.eye(len(flat), dtype=torch.float64)).detach()
    return dense


def difference_product(
    module: Supervised, data: TensorDataset, direction: Tensor, step: float = 1e-5
) -> Tensor:
    """``H v`` in float64 by a central difference of gradients from ``backward()``."""
    network = copy.deepcopy(module.network).double().eval()
    inputs, targets = data.tensors
    inputs = inputs.double() if inputs.is_floating_point() else inputs
    parameters = [p for p in network.parameters() if p.requires_grad]
    pieces = direction.double().split([p.numel() for p in parameters])

    def gradient() -> Tensor:
        network.zero_grad()
        module.criterion(network(inputs), targets).backward()
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        return torch.cat([g.reshape(-1) for g in grads])

    def move(length: float) -> None:
        with torch.no_grad():
            for parameter, piece in zip(parameters, pieces, strict=True):
                parameter.add_(piece.view_as(parameter), alpha=length)

    move(step)
    ahead = gradient()
    move(-2 * step)
    return (ahead - gradient()) / (2 * step)


class ConvWithBatchNorm(nn.Module):
    """Two convolutions, running statistics and dropout; 8x8 inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 6, 3, stride=2, padding=1),
            nn.BatchNorm2d(6),
            nn.GELU(),
            nn.Conv2d(6, 8, 3, stride=2, padding=1),
            nn.BatchNorm2d(8),
            nn.Tanh(),
            nn.Dropout(0.2),
            nn.Flatten(),
            nn.Linear(32, 10),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.view(-1, 1, 8, 8))


class Attention(nn.Module):
    """A pre-norm transformer block with fused attention over the 8 rows of an image."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.width = width
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, 8))
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = x.view(-1, 8, self.width)
        q, k, v = (
            part.view(-1, 8, 2, self.width // 2).transpose(1, 2)
            for part in self.qkv(self.norm(x)).chunk(3, dim=-1)
        )
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + attended.transpose(1, 2).reshape(x.shape)
        return self.head((x + self.mlp(x)).mean(dim=1))


class Recurrent(nn.Module):
    """An LSTM that reads the 8 rows of an image."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, width, batch_first=True)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x.view(-1, 8, 8))[0][:, -1])


class TiedFrozenUnused(nn.Module):
    """Encoder and decoder share a weight, one layer is frozen, one is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(64, 8)
        self.unused = nn.Linear(4, 5)
        self.frozen = nn.Linear(8, 64, bias=False).requires_grad_(False)
        self.decoder = nn.Linear(64, 8)
        self.decoder.weight = self.encoder.weight
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.encoder(x))
        return self.head(torch.tanh(self.decoder(torch.tanh(self.frozen(hidden)))))


def mlp(*widths: int, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Linear layers of these widths with an activation in between."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), activation()]
    return nn.Sequential(*layers[:-1])
