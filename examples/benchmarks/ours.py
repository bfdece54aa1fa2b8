"""Our report on a workload: one sweep for both ends and the density, probes for the trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from examples.benchmarks.answers import Answer
from examples.benchmarks.workloads import Workload
from lightning_hessian.data import FrozenBatch, FrozenBatches
from lightning_hessian.hvp import ExactProducts
from lightning_hessian.linalg import measure_spectrum
from lightning_hessian.loss import ParameterSelection, TrainingLoss
from lightning_hessian.sandbox import Sandbox


@dataclass(frozen=True, slots=True, kw_only=True)
class OurSettings:
    """What differs from the package's defaults.

    Attributes:
        estimator: Arguments of ``measure_spectrum``.
        products: Arguments of ``ExactProducts``: how products are made.
        sandbox: Arguments of ``Sandbox``: precision of the arithmetic.
    """

    estimator: dict[str, Any] = field(default_factory=dict)
    products: dict[str, Any] = field(default_factory=dict)
    sandbox: dict[str, Any] = field(default_factory=dict)


@contextmanager
def training_loss(workload: Workload, settings: OurSettings) -> Iterator[TrainingLoss]:
    """The workload as the callback would see it, without a Trainer."""

    def batch_loss(batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        loss: Tensor = workload.criterion(workload.network(batch[0]), batch[1])
        return loss

    frozen = tuple(
        FrozenBatch(batch, len(batch[1]), index, len(batch[1]))
        for index, batch in enumerate(workload.batches)
    )
    batches = FrozenBatches(frozen, workload.num_samples, workload.title)
    network = workload.network
    where: dict[str, Any] = {"mode": "eval", "seed": 0, "dtype": torch.float32} | settings.sandbox
    with Sandbox(network, **where) as sandbox:
        selection = ParameterSelection.of(network)
        products = partial(ExactProducts, **settings.products)
        yield TrainingLoss(batch_loss, batches, selection, sandbox, products=products)


def run(workload: Workload, seed: int, settings: OurSettings) -> Answer:
    """From the network to the whole report."""
    with training_loss(workload, settings) as loss:
        generator = torch.Generator().manual_seed(seed)
        spectrum = measure_spectrum(loss.products, generator=generator, **settings.estimator)
    assert spectrum.trace is not None
    assert spectrum.density is not None
    return Answer(
        largest=spectrum.largest.values.tolist(),
        smallest=float(spectrum.smallest.values[0]),
        trace=spectrum.trace.value,
        nodes=spectrum.density.nodes.tolist(),
        weights=spectrum.density.weights.tolist(),
        num_products=spectrum.num_hvps,
    )
