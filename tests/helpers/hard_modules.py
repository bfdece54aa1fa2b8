"""Networks whose second derivative is hard to get, and an independent route to their Hessian."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from lightning_hessian.fit import FitLoss
from tests.helpers.fitting import Classifier, classification_data, loader, trainer
from tests.helpers.setups import loss_setup


class DenseHessian(pl.Callback):
    """Takes the whole Hessian, column by column, at the start of a fit."""

    def __init__(self, **options: Any) -> None:
        self._setup = loss_setup(**({"products": "exact"} | options))

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        fit_loss = FitLoss(self._setup, trainer, pl_module)
        fit_loss.remember_flags()
        self.take(fit_loss)

    def take(self, fit_loss: FitLoss) -> None:
        with fit_loss.opened() as loss:
            gradient = loss.gradient()
            eye = torch.eye(loss.size, dtype=loss.dtype)
            self.matrix = loss.products.matmat(eye)
            self.again = loss.products.matmat(eye[:, :4])
        self.loss, self.gradient, self.unused = gradient.loss, gradient.vector, gradient.unused
        self.names = loss.parameters.names
        self.batches = loss.sample.batches
        self.description, self.num_samples = loss.sample.description, loss.sample.num_samples
        self.notes = fit_loss.notes


def measure(
    module: pl.LightningModule, data: Any = None, *, batch_size: int = 16, fit: Any = None, **o: Any
) -> DenseHessian:
    """The Hessian of a module's loss over all its data, through a fit of one step."""
    probe = DenseHessian(**o)
    trainer(probe, max_steps=1, **(fit or {})).fit(module, loader(data, batch_size=batch_size))
    return probe


def hessian_by_differences(
    module: pl.LightningModule,
    batches: Iterable[Any] | None = None,
    *,
    step: float = 1e-4,
    train: bool = False,
) -> Tensor:
    """``(n, n)`` by fourth-order differences of ``backward()``: no second derivative is taken.

    In float64, on plain batches of equal weight; the whole of the usual data in one by default.
    Truncation is ``step**4 / 30`` fifth derivatives of the loss (1e-16 of them), rounding about
    ``2 eps |gradient| / step`` (1e-12).
    """
    module.double().train(train)
    module.__dict__["log"] = lambda *_, **__: None
    batches = list(batches or [classification_data().tensors])
    parameters = [p for p in module.parameters() if p.requires_grad]
    flat = nn.utils.parameters_to_vector(parameters).detach()

    def gradient(point: Tensor) -> Tensor:
        with torch.no_grad():
            nn.utils.vector_to_parameters(point, parameters)
        module.zero_grad()
        for batch in batches:
            data = [t.double() if t.is_floating_point() else t for t in batch]
            loss = module.training_step(data, 0)
            assert isinstance(loss, Tensor)
            (loss / len(batches)).backward()
        pieces = [torch.zeros_like(p) if p.grad is None else p.grad.to_dense() for p in parameters]
        return torch.cat([piece.reshape(-1) for piece in pieces])

    rows = []
    for direction in torch.eye(len(flat), dtype=torch.float64) * step:
        near = gradient(flat + direction) - gradient(flat - direction)
        far = gradient(flat + 2 * direction) - gradient(flat - 2 * direction)
        rows.append((8 * near - far) / (12 * step))
    return torch.stack(rows)


def off_by(measured: Tensor, wanted: Tensor) -> float:
    """Largest deviation relative to the largest entry."""
    return float((measured.double() - wanted).abs().max() / wanted.abs().max())


class Attention(nn.Module):
    """Self-attention over the four features as a sequence, by the fused function."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(1, 6)
        self.out = nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x[:, None, :, None]).chunk(3, dim=-1)
        return self.out(F.scaled_dot_product_attention(q, k, v).mean(dim=(1, 2)))


class Encoder(nn.Module):
    """Torch's own transformer layer."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(4, 2, dim_feedforward=2, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.out = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x[:, None, :] * torch.ones(1, 3, 1, dtype=x.dtype).cumsum(1)
        return self.out(self.encoder(tokens).mean(dim=1))


class Recurrent(nn.Module):
    """An LSTM or GRU over the features as a sequence."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.rnn = kind(1, 2, batch_first=True)
        self.out = nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(x[..., None])[0][:, -1])


class SparseEmbedding(nn.Module):
    """Signs of the features as words, whose gradient is sparse."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(8, 3, sparse=True)
        self.out = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        words = (x > 0).long() + 2 * torch.arange(4)
        return self.out(self.words(words).tanh().sum(dim=1))


class Checkpointed(nn.Module):
    """Recomputes its hidden layer in the backward pass."""

    def __init__(self, use_reentrant: bool) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(4, 5), nn.Tanh())
        self.out = nn.Linear(5, 3)
        self.use_reentrant = use_reentrant

    def forward(self, x: Tensor) -> Tensor:
        x = x.clone().requires_grad_(self.use_reentrant)
        return self.out(checkpoint(self.hidden, x, use_reentrant=self.use_reentrant))


class LowRank(nn.Module):
    """A frozen layer with a trainable low-rank addition."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Linear(4, 3).requires_grad_(False)
        self.down = nn.Parameter(torch.randn(4, 2) / 2)
        self.up = nn.Parameter(torch.randn(2, 3) / 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + (x @ self.down @ self.up).tanh()


class Tied(nn.Module):
    """One weight in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4, bias=False)
        self.second = nn.Linear(4, 4, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).tanh())[:, :3]


class WithUnused(nn.Module):
    """Has a layer that no output depends on."""

    def __init__(self) -> None:
        super().__init__()
        self.used = nn.Linear(4, 3)
        self.never = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.used(x)


def mlp(*extra: nn.Module, wrap: Callable[[nn.Linear], nn.Module] = lambda layer: layer) -> Any:
    """Two layers, the first one wrapped."""
    return nn.Sequential(wrap(nn.Linear(4, 5)), *extra, nn.Tanh(), nn.Linear(5, 3))


def weight_normed(name: str, dim: int | None, *, old: bool) -> Callable[[Any], nn.Module]:
    """A wrapper for :func:`mlp`, by hooks or by parametrisation."""
    norm: Any = nn.utils.weight_norm if old else parametrizations.weight_norm

    def wrap(layer: nn.Module) -> nn.Module:
        # a fresh layer has g = ||v||, where half of the derivative's terms cancel
        wrapped: nn.Module = norm(layer, name, dim)
        with torch.no_grad():
            for part, p in wrapped.named_parameters():
                if part.endswith(("_g", "original0")):
                    p.mul_(torch.linspace(0.7, 1.4, p.numel()).view_as(p))
        return wrapped

    return wrap


def seeded(make: Callable[[], nn.Module], **options: Any) -> Classifier:
    """A classifier that comes out the same each time."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return Classifier(make(), **options)
