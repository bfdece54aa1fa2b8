"""Losses of single samples through a fit, and by a loop over samples in plain torch."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from lightning_hessian.data import shuffled
from lightning_hessian.fit import FitLoss
from lightning_hessian.loss import TrainingLoss
from lightning_hessian.sample_losses import SampleLosses, sample_losses
from tests.helpers.fitting import Classifier, classification_data, loader, trainer
from tests.helpers.hard_modules import DenseHessian, seeded

Step = Callable[[Any, Any], Any]
"""From a module and a batch to the loss."""


class AtStart(DenseHessian):
    """Computes something from the loss at the start of a fit."""

    def __init__(self, compute: Callable[[TrainingLoss], Any], **options: Any) -> None:
        super().__init__(**{"derivatives": "none", **options})
        self.compute = compute

    def take(self, fit_loss: FitLoss) -> None:
        with fit_loss.opened() as loss:
            self.found = self.compute(loss)


class ByHand(Classifier):
    """A network whose step is given as a function."""

    def __init__(self, step: Step, network: nn.Module) -> None:
        super().__init__(network)
        self.step = step

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.step(self, batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


def network() -> nn.Module:
    """Two layers with a normalisation and dropout between, both as in evaluation."""
    make = lambda: nn.Sequential(  # noqa: E731
        nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(0.5), nn.Linear(6, 3)
    )
    return seeded(make).network


def by_hand(step: Step, own: nn.Module | None = None) -> ByHand:
    """The same weights each time."""
    return ByHand(step, own or network())


def at_start(
    module: pl.LightningModule,
    compute: Callable[[TrainingLoss], Any],
    data: Any = None,
    *,
    batch_size: int = 8,
    collate: Any = None,
    fit: Any = None,
    **options: Any,
) -> Any:
    """What a function makes of a module's loss over all its data, in a fit of one step."""
    probe = AtStart(compute, **options)
    batches = loader(data, batch_size=batch_size, collate_fn=collate)
    # a copy, as a step of training moves the statistics of normalisations
    trainer(probe, max_steps=1, **(fit or {})).fit(copy.deepcopy(module), batches)
    return probe.found


def measured(module: pl.LightningModule, data: Any = None, **options: Any) -> SampleLosses:
    """The loss of each sample, in the order of the data set."""
    found: SampleLosses = at_start(module, sample_losses, data, **options)
    order = torch.tensor(shuffled(range(len(found.values)), 0))
    return replace(found, values=found.values[order.argsort()])


def loop(
    module: ByHand, data: Dataset[Any] | None = None, *, precision: int = 64, collate: Any = None
) -> Tensor:
    """``(N,)`` each sample in a batch of its own, in eval mode."""
    own = copy.deepcopy(module).eval()
    own = own.double() if precision == 64 else own
    samples: Any = data or classification_data()
    collate = collate or torch.utils.data.default_collate
    losses = []
    for i in range(len(samples)):
        batch = collate([samples[i]])
        if precision == 64:
            batch = torch.utils._pytree.tree_map(in_double, batch)
        loss = own.step(own, batch)
        losses.append((loss["loss"] if isinstance(loss, dict) else loss).item())
    return torch.tensor(losses, dtype=torch.float64)


def in_double(thing: Any) -> Any:
    """Floating-point tensors in 64 bits."""
    return thing.double() if isinstance(thing, Tensor) and thing.is_floating_point() else thing


def regression_data(count: int = 26) -> TensorDataset:
    """Inputs, labels, a target, and a weight of each sample."""
    generator = torch.Generator().manual_seed(11)
    inputs, labels = classification_data(count).tensors
    target = torch.randn(count, 3, generator=generator)
    return TensorDataset(inputs, labels, target, torch.rand(count, generator=generator) + 0.1)


def assert_losses(
    step: Any,
    method: str,
    separability: str,
    data: Any = None,
    *,
    own: nn.Module | None = None,
    batch_size: int = 8,
) -> None:
    """Losses are those of the loop, in single precision and in double, to a few roundings."""
    data = data or regression_data()
    for precision, allowed in ((32, 1e-6), (64, 1e-12)):
        module = by_hand(step, own)
        found = measured(module, data, batch_size=batch_size, precision=precision)
        wanted = loop(module, data, precision=precision)
        assert (found.method, found.separability) == (method, separability)
        scale = float(wanted.abs().mean())
        torch.testing.assert_close(found.values, wanted, rtol=0, atol=allowed * scale)
