"""The losses of single samples of networks and steps of many kinds, against the same loop."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from tests.helpers.adversarial import Adversarial
from tests.helpers.fitting import classification_data
from tests.helpers.sample_losses import (
    assert_losses,
    by_hand,
    loop,
    measured,
    network,
    regression_data,
)


def cross_entropy(m: Any, batch: Any) -> Tensor:
    return F.cross_entropy(m.network(batch[0]), batch[1])


class Tokens(nn.Module):
    """A transformer layer over sequences of words, of which zero is padding."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(6, 4)
        layer = nn.TransformerEncoderLayer(4, 2, dim_feedforward=4, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.out = nn.Linear(4, 6)

    def forward(self, words: Tensor) -> Tensor:
        return self.out(self.encoder(self.words(words), src_key_padding_mask=words == 0))


def sentences() -> TensorDataset:
    generator = torch.Generator().manual_seed(2)
    words = torch.randint(1, 6, (26, 5), generator=generator)
    lengths = torch.randint(2, 6, (26, 1), generator=generator)
    return TensorDataset(words * (torch.arange(5) < lengths))


def ignored(m: Any, batch: Any) -> Tensor:
    (words,) = batch
    out, targets = m.network(words), words.roll(-1, 1)
    return F.cross_entropy(out.reshape(-1, 6), targets.reshape(-1), ignore_index=0)


def masked(m: Any, batch: Any) -> Tensor:
    (words,) = batch
    out, mask = m.network(words), (words != 0).to(m.network.out.weight.dtype)
    losses = F.cross_entropy(out.mT, words, reduction="none")
    return (losses * mask).sum() / mask.sum()


@pytest.mark.parametrize("step", [ignored, masked])
def test_tokens_that_are_ignored_make_a_weighted_mean_over_sentences(step: Any) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        own = Tokens()
    assert_losses(step, "batched", "weighted mean", sentences(), own=own)


def test_convolutions_with_statistics_of_training() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        own = nn.Sequential(
            nn.Unflatten(1, (1, 4)), nn.Conv1d(1, 3, 2), nn.BatchNorm1d(3), nn.ReLU(),
            nn.Dropout(0.3), nn.Flatten(), nn.Linear(9, 3),
        )  # fmt: skip
    own[2].running_mean.fill_(0.3)  # type: ignore[union-attr,operator]
    assert_losses(cross_entropy, "batched", "mean", own=own)


def test_a_compiled_network_is_the_network() -> None:
    torch.compiler.reset()
    own = network()
    own[0] = torch.compile(own[0], backend="eager")  # type: ignore[operator]
    found = measured(by_hand(cross_entropy, own), regression_data())
    wanted = loop(by_hand(cross_entropy), regression_data(), precision=32)
    assert (found.method, found.separability) == ("batched", "mean")
    torch.testing.assert_close(found.values, wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("number", [0, 1])
def test_a_loss_of_manual_optimisation_is_read_off(number: int) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        module = Adversarial()
    found = measured(module, classification_data(), which=number, precision=64)
    own = copy.deepcopy(module).double().eval()
    method = own.generator_loss if number == 0 else own.discriminator_loss
    inputs, targets = classification_data().tensors
    wanted = [method([inputs[i : i + 1].double(), targets[i : i + 1]]).item() for i in range(26)]
    assert (found.method, found.separability) == ("batched", "mean")
    torch.testing.assert_close(
        found.values, torch.tensor(wanted, dtype=torch.float64), rtol=1e-12, atol=0
    )
