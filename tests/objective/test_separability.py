"""Losses that are not made of those of single samples are refused, by noise too."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_hessian.errors import NonFiniteError, RefusedError
from lightning_hessian.loss import TrainingLoss
from lightning_hessian.sample_losses import sample_losses
from tests.helpers.sample_losses import at_start, by_hand, loop, measured, network, regression_data

NOT_OF_SAMPLES = r"the loss of a batch is not made of the losses of its samples: those of 6 samples"


def contrastive(m: Any, batch: Any) -> Tensor:
    first = F.normalize(m.network(batch[0]), dim=1)
    second = F.normalize(batch[2], dim=1)
    return F.cross_entropy(first @ second.T / 0.5, torch.arange(len(first)))


def pairwise(m: Any, batch: Any) -> Tensor:
    out = m.network(batch[0])
    return (out[:, None] - out[None]).square().sum(-1).mean()


def triplets(m: Any, batch: Any) -> Tensor:
    out = m.network(batch[0])
    return F.triplet_margin_loss(out, out.roll(1, 0), out.roll(2, 0)) + out.square().mean()


def centred(m: Any, batch: Any) -> Tensor:
    out = m.network(batch[0])
    return F.mse_loss(out - out.mean(dim=0), batch[2])


def normalised_by_the_batch(m: Any, batch: Any) -> Tensor:
    m.network[1].train()
    inputs = batch[0] if len(batch[0]) > 1 else batch[0].repeat(2, 1)
    return F.cross_entropy(m.network(inputs)[: len(batch[0])], batch[1])


def spread_of_the_batch(coefficient: float) -> Any:
    def step(m: Any, batch: Any) -> Tensor:
        out = m.network(batch[0])
        return F.cross_entropy(out, batch[1]) + coefficient * out.var(dim=0, correction=0).mean()

    return step


def undefined_alone(m: Any, batch: Any) -> Tensor:
    out = m.network(batch[0])
    return F.cross_entropy(out, batch[1]) + out.std(dim=0).sum()


def root_of_the_mean(m: Any, batch: Any) -> Tensor:
    return F.mse_loss(m.network(batch[0]), batch[2]).sqrt()


@pytest.mark.filterwarnings("ignore:std.*degrees of freedom:UserWarning")
@pytest.mark.parametrize("precision", [32, 64])
@pytest.mark.parametrize("batch_size", [8, 1])
@pytest.mark.parametrize(
    "step",
    [
        contrastive,
        pairwise,
        triplets,
        centred,
        normalised_by_the_batch,
        spread_of_the_batch(0.1),
        undefined_alone,
        root_of_the_mean,
    ],
)
def test_a_loss_over_pairs_or_statistics_of_samples_is_refused(
    step: Any, batch_size: int, precision: int
) -> None:
    # in batches of one too, which are joined for the question
    with pytest.raises(RefusedError, match=NOT_OF_SAMPLES):
        measured(by_hand(step), regression_data(), batch_size=batch_size, precision=precision)


@pytest.mark.parametrize(("precision", "share"), [(32, 3e-4), (64, 3e-9)])
def test_a_small_share_of_the_batch_is_noticed(precision: int, share: float) -> None:
    # the tolerance is 1e-4 and 1e-9 of the loss; weights of samples absorb as much again
    module = by_hand(spread_of_the_batch(0.0))
    inputs = regression_data().tensors[0]
    with torch.no_grad():
        spread = float(network().eval()(inputs).var(dim=0, correction=0).mean())
    scale = float(loop(module, regression_data()).max())
    coefficient = share * scale / spread
    with pytest.raises(RefusedError, match=NOT_OF_SAMPLES):
        measured(by_hand(spread_of_the_batch(coefficient)), regression_data(), precision=precision)


class Seen:
    """The losses of a batch, in slots: out of sight of what puts all state back."""

    __slots__ = ("losses",)

    def __init__(self) -> None:
        self.losses = torch.empty(0)


SEEN = Seen()


@pytest.mark.parametrize("precision", [32, 64])
def test_with_noise_a_sample_has_the_loss_of_its_own_draw(precision: int) -> None:
    def step(m: Any, batch: Any) -> Tensor:
        out = m.network(batch[0] + 0.1 * torch.randn_like(batch[0]))
        SEEN.losses = F.cross_entropy(out, batch[1], reduction="none").detach().double()
        return F.cross_entropy(out, batch[1])

    def of_batches(loss: TrainingLoss) -> Tensor:
        found = []
        for batch in loss.sample.batches:
            loss.evaluate(batch)
            found.append(SEEN.losses)
        return torch.cat(found)

    data = regression_data(24)
    found = at_start(by_hand(step), sample_losses, data, precision=precision)
    assert [note.code for note in found.notes] == ["noise-frozen"]
    assert (found.method, found.separability) == ("batched", "mean")
    wanted = at_start(by_hand(step), of_batches, data, precision=precision)
    torch.testing.assert_close(found.values, wanted, rtol=1e-5, atol=1e-6)
    assert wanted.unique().numel() == 24


def mixed_up(m: Any, batch: Any) -> Tensor:
    order, share = torch.randperm(len(batch[0])), torch.rand(())
    inputs = share * batch[0] + (1 - share) * batch[0][order]
    return F.cross_entropy(m.network(inputs), batch[1])


def noisy_contrastive(m: Any, batch: Any) -> Tensor:
    return contrastive(m, [batch[0] + 0.1 * torch.randn_like(batch[0]), *batch[1:]])


def noisy_and_not_readable(m: Any, batch: Any) -> Tensor:
    error = (m.network(batch[0] + 0.1 * torch.randn_like(batch[0])) - batch[2]).flatten()
    return error @ error / len(batch[0])


@pytest.mark.parametrize("precision", [32, 64])
@pytest.mark.parametrize("step", [mixed_up, noisy_contrastive, noisy_and_not_readable])
def test_noise_that_mixes_samples_or_hides_them_is_refused(step: Any, precision: int) -> None:
    with pytest.raises(RefusedError, match="the step draws random numbers in eval mode: the same"):
        measured(by_hand(step), regression_data(), precision=precision)


def test_a_sample_without_a_loss_is_refused() -> None:
    def step(m: Any, batch: Any) -> Tensor | None:
        if len(batch[0]) == 1 and int(batch[1]) == 0:
            return None
        return F.cross_entropy(m.network(batch[0]), batch[1])

    with pytest.raises(RefusedError, match=re.escape("the step returns None for 1 of the samples")):
        measured(by_hand(step), regression_data())


@pytest.mark.parametrize("batch_size", [8, 1])
def test_a_sample_whose_loss_is_not_finite_is_an_error(batch_size: int) -> None:
    def step(m: Any, batch: Any) -> Tensor:
        # all samples of the last class but one are ignored: alone 0 / 0
        return F.cross_entropy(m.network(batch[0]), batch[1], ignore_index=1)

    with pytest.raises(NonFiniteError, match="must be finite"):
        measured(by_hand(step), regression_data(), batch_size=batch_size)


def test_weights_of_samples_are_found_from_nearly_equal_losses() -> None:
    # losses within a few percent of each other, weights over a factor of ten
    def step(m: Any, batch: Any) -> Tensor:
        error = 10 + (m.network(batch[0]) - batch[2]).square().mean(dim=1)
        return (batch[3] * error).sum() / batch[3].sum()

    for precision in (32, 64):
        found = measured(by_hand(step), regression_data(), precision=precision)
        assert (found.method, found.separability) == ("batched", "weighted mean")


def test_losses_of_zero_are_a_mean() -> None:
    def step(m: Any, batch: Any) -> Tensor:
        return F.relu(m.network(batch[0]) - 100).sum()

    found = measured(by_hand(step), regression_data())
    assert found.separability == "mean"
    assert not found.values.any()
