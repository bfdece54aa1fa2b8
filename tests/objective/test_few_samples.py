"""What only few samples have is found too: the handful may not hold one of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from lightning_hessian.errors import RefusedError
from tests.helpers.difference import difference
from tests.helpers.fitting import Classifier, loader, trainer

NUM_SAMPLES = 200


def flagged(count: int, seed: int) -> TensorDataset:
    """Samples of which some carry a flag."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(NUM_SAMPLES, 4, generator=generator)
    flags = torch.zeros(NUM_SAMPLES)
    flags[torch.randperm(NUM_SAMPLES, generator=generator)[:count]] = 1
    return TensorDataset(inputs, torch.arange(NUM_SAMPLES) % 3, flags)


class Under(Classifier):
    def __init__(self, loss: Callable[..., Tensor]) -> None:
        super().__init__(lr=0.0)
        self.of = loss

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.of(self.network(batch[0]), *batch[1:])


def interacting(x: Tensor, y: Tensor, flag: Tensor) -> Tensor:
    z = F.normalize(x)
    pairs = flag[:, None] * flag * (z @ z.T)
    return F.cross_entropy(x, y) + 3 * (pairs.sum() - flag.sum()) / len(x)


def weighted(x: Tensor, y: Tensor, flag: Tensor) -> Tensor:
    weight = 1 + 29 * flag
    return (weight * F.cross_entropy(x, y, reduction="none")).sum() / weight.sum()


def noisy(x: Tensor, y: Tensor, flag: Tensor) -> Tensor:
    return F.cross_entropy(x + flag[:, None] * torch.randn_like(x), y)


@pytest.mark.parametrize("loss", [interacting, weighted, noisy])
@pytest.mark.parametrize("seed", range(4))
def test_what_few_samples_have_is_never_taken_for_a_mean(
    loss: Callable[..., Tensor], seed: int
) -> None:
    callback = difference(num_samples="all", seed=seed)
    run = trainer(callback, max_steps=1)
    try:
        run.fit(Under(loss), loader(flagged(30, seed), batch_size=20))
    except RefusedError:
        return
    # a handful that holds a weight tells it, and one that holds noise freezes it
    report = callback.reports[0]
    is_noisy = "noise-frozen" in [note.code for note in report.notes]
    assert is_noisy if loss is noisy else report.separability == "weighted mean"
    assert loss is not interacting


def test_the_refusal_says_what_a_handful_missed() -> None:
    reason = r"a handful of samples is the mean of their losses, but in \d+ of .*`hessian_loss"
    with pytest.raises(RefusedError, match=reason):
        # four flagged samples of two hundred
        trainer(difference(num_samples="all"), max_steps=1).fit(
            Under(noisy), loader(flagged(4, 8), batch_size=20)
        )


@pytest.mark.parametrize("count", [1, 4])
def test_weights_that_few_samples_have_are_a_note_and_no_refusal(count: int) -> None:
    data = flagged(count, 8)
    module = Under(weighted)
    callback = difference(num_samples="all", keep_losses=True)
    trainer(callback, max_steps=1).fit(module, loader(data, batch_size=20))
    report = callback.reports[0]
    assert report.separability == "weighted mean"
    with torch.no_grad():
        wanted = F.cross_entropy(module.network(data.tensors[0]), data.tensors[1], reduction="none")
    torch.testing.assert_close(
        report.sample_losses.sort().values.float(), wanted.sort().values, rtol=1e-5, atol=1e-6
    )
