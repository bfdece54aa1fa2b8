"""The loss is a mean over samples: how they are batched must not matter."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import Subset, TensorDataset

from lightning_hessian.loss import TrainingLoss
from tests.helpers.networks import Attention, ConvWithBatchNorm, Supervised, ask, mlp


def _products(module: Supervised, data: Any, **options: Any) -> tuple[Tensor, float]:
    """Products with two fixed vectors, and the loss, in float64."""

    def question(loss: TrainingLoss) -> tuple[Tensor, float]:
        generator = torch.Generator().manual_seed(5)
        vectors = torch.randn(loss.size, 2, generator=generator, dtype=torch.float64)
        products = loss.products.matmat(vectors.to(loss.dtype))
        return products.double(), loss.gradient().loss

    return ask(module, data, question, **options)


@pytest.mark.parametrize(("precision", "limit"), [(64, 1e-13), (32, 1e-6)])
@pytest.mark.parametrize("make", [lambda: mlp(64, 8, 10), ConvWithBatchNorm, Attention])
def test_products_do_not_depend_on_the_batch_size(
    make: Any, precision: int, limit: float, digits: TensorDataset
) -> None:
    # sums over a batch are roundings in the objective's type (6e-8, 1e-16), over batches in float64
    torch.manual_seed(0)
    module = Supervised(make())
    whole, loss = _products(module, digits, batch_size=161, precision=precision)
    for batch_size in (32, 50):
        split, split_loss = _products(module, digits, batch_size=batch_size, precision=precision)
        assert (split - whole).norm() < limit * whole.norm()
        assert split_loss == pytest.approx(loss, rel=limit)


def test_batch_of_single_samples_gives_the_same_products(digits: TensorDataset) -> None:
    torch.manual_seed(0)
    module, few = Supervised(mlp(64, 8, 10)), TensorDataset(*digits[:20])
    whole, _ = _products(module, few, batch_size=20)
    single, _ = _products(module, few, batch_size=1)
    assert (single - whole).norm() < 1e-13 * whole.norm()


@pytest.mark.parametrize("batch_size", [7, 50])
def test_fewer_samples_are_the_same_ones_for_every_batch_size(
    batch_size: int, digits: TensorDataset
) -> None:
    torch.manual_seed(0)
    module = Supervised(mlp(64, 8, 10))
    whole, _ = _products(module, digits, batch_size=50, num_samples=50)
    split, _ = _products(module, digits, batch_size=batch_size, num_samples=50)
    assert (split - whole).norm() < 1e-13 * whole.norm()
    everything, _ = _products(module, digits, batch_size=50)
    # 50 of 161 samples are another loss: equality would mean that the option is not heard
    assert (everything - whole).norm() > 1e-3 * whole.norm()


def test_hessian_of_all_samples_is_the_mean_of_two_halves_weighted_by_size(
    digits: TensorDataset,
) -> None:
    torch.manual_seed(0)
    module = Supervised(mlp(64, 8, 10))
    whole, _ = _products(module, digits)
    first, _ = _products(module, Subset(digits, range(100)))
    second, _ = _products(module, Subset(digits, range(100, 161)))
    assert ((100 * first + 61 * second) / 161 - whole).norm() < 1e-13 * whole.norm()
