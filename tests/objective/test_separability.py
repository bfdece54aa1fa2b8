"""A batch's loss that is not made of its samples' losses is refused, with what was seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from lightning_hessian.errors import RefusedError
from tests.helpers.fitting import Classifier, classification_data
from tests.helpers.sampled import asked

NOT_MADE_OF = r"is not made of the losses of its samples: .* neither their mean .*`hessian_loss"


class Under(Classifier):
    """Any loss of features and targets."""

    def __init__(self, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.of = loss

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.of(self.network(batch[0]), batch[1])


def contrastive(x: Tensor, y: Tensor) -> Tensor:
    x = F.normalize(x, dim=-1)
    return F.cross_entropy(x @ x.T / 0.5, torch.arange(len(x)))


def supervised_contrastive(x: Tensor, y: Tensor) -> Tensor:
    """Of a single sample it is 0 / 0."""
    alike = (y[:, None] == y) & ~torch.eye(len(y), dtype=torch.bool)
    scores = (x @ x.T).log_softmax(dim=1)
    return -(scores * alike).sum() / alike.sum()


def pairwise(x: Tensor, y: Tensor) -> Tensor:
    return torch.cdist(x, x).mean() + F.cross_entropy(x, y)


def centred(x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(x - x.mean(dim=0), y)


def spread_out(x: Tensor, y: Tensor, coefficient: float = 1.0) -> Tensor:
    return F.cross_entropy(x, y) + coefficient * x.var(dim=0, unbiased=False).sum()


def hardest(x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(x, y, reduction="none").max()


def root(x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(x, y).sqrt()


@pytest.mark.parametrize(
    "loss", [contrastive, supervised_contrastive, pairwise, centred, spread_out, hardest]
)
@pytest.mark.parametrize("batch_size", [None, 1])
def test_losses_over_pairs_and_of_batch_statistics_are_refused(
    loss: Callable[[Tensor, Tensor], Tensor], batch_size: int | None
) -> None:
    # batches of one sample too: some of them are joined
    with pytest.raises(RefusedError, match=NOT_MADE_OF):
        asked(Under(loss), classification_data(), batch_size=batch_size)


@pytest.mark.parametrize("batch_size", [None, 1])
def test_the_root_of_a_mean_is_told_from_a_weighted_mean_in_double_precision(
    batch_size: int | None,
) -> None:
    with pytest.raises(RefusedError, match=NOT_MADE_OF):
        asked(Under(root), classification_data(), batch_size=batch_size, precision=64)


@pytest.mark.parametrize(("precision", "coefficient"), [(32, 1e-2), (64, 1e-7)])
def test_a_small_term_over_the_batch_is_noticed(precision: Any, coefficient: float) -> None:
    module = Under(lambda x, y: spread_out(x, y, coefficient))
    with pytest.raises(RefusedError, match=NOT_MADE_OF):
        asked(module, classification_data(), precision=precision)


class Forced(Classifier):
    """Keeps its BatchNorm in train mode, whatever it is told."""

    def __init__(self) -> None:
        super().__init__(nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        hidden = self.network[0](batch[0])
        mean, variance = hidden.mean(dim=0), hidden.var(dim=0, unbiased=False)
        hidden = (hidden - mean) / (variance + 1e-5).sqrt()
        return F.cross_entropy(self.network[2](hidden), batch[1])


def test_statistics_of_the_batch_inside_the_network_are_refused() -> None:
    with pytest.raises(RefusedError, match=NOT_MADE_OF):
        asked(Forced(), classification_data())


class Noisy(Classifier):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        inputs = batch[0] + 0.3 * torch.randn_like(batch[0])
        return F.cross_entropy(self.network(inputs), batch[1])


def test_random_numbers_in_the_step_are_refused() -> None:
    with pytest.raises(RefusedError, match=r"draws random numbers in eval mode: .*without noise"):
        asked(Noisy(), classification_data())


def test_dropout_is_off_and_no_reason_to_refuse() -> None:
    network = nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.5), nn.Linear(6, 3))
    assert asked(Classifier(network), classification_data()).separability == "mean"


def test_equal_losses_are_a_mean() -> None:
    equal = TensorDataset(torch.ones(10, 4), torch.zeros(10, dtype=torch.long))
    found = asked(Classifier(), equal)
    assert found.separability == "mean"
    assert float(found.values.std()) < 1e-6


def test_losses_that_vanish_are_a_mean() -> None:
    found = asked(Under(lambda x, y: 0.0 * F.cross_entropy(x, y)), classification_data())
    assert found.values.abs().max() == 0
    assert found.separability == "mean"
