"""Steps that take batches of some sizes only: samples are measured in batches of these."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_hessian.data import FrozenBatch, shuffled
from lightning_hessian.errors import RefusedError, UntakenBatchError
from lightning_hessian.loss import TrainingLoss
from lightning_hessian.sample_losses import Filling, RepeatedLosses, samples_keep_losses
from tests.helpers.choosy import (
    BATCH,
    choosy,
    even,
    full,
    mean,
    pairs,
    several,
    summed,
    unreadable,
    weighted,
)
from tests.helpers.sample_losses import at_start, by_hand, loop, measured, regression_data

DATA = regression_data(3 * BATCH)


def anything(_: Any) -> None:
    """Takes every batch."""


@pytest.mark.parametrize("takes", [even, full, several])
@pytest.mark.parametrize(
    ("loss", "separability", "method"),
    [
        (mean, "mean", "batched"),
        (summed, "sum", "batched"),
        (unreadable, "mean", "one by one"),
    ],
)
def test_losses_are_those_of_samples_alone(
    takes: Any, loss: Any, separability: str, method: str
) -> None:
    found = measured(by_hand(choosy(takes, loss)), DATA)
    wanted = loop(by_hand(choosy(anything, loss)), DATA, precision=32)
    if takes is full and loss is summed:
        # of one size alone a sum is a mean of so many times the losses
        separability, method, wanted = "mean", "one by one", BATCH * wanted
    assert (found.separability, found.method) == (separability, method)
    torch.testing.assert_close(found.values, wanted, rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize(("count", "num_notes"), [(3 * BATCH, 1), (3 * BATCH + 2, 1)])
def test_weights_of_samples_are_told_from_a_mean(count: int, num_notes: int) -> None:
    found = measured(by_hand(choosy(even, weighted)), regression_data(count))
    assert found.separability == "weighted mean"
    assert len(found.notes) == num_notes


def evaluated(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Samples in each call of the step from now on."""
    own, sizes = TrainingLoss.evaluate, []

    def evaluate(self: TrainingLoss, batch: Any, **given: Any) -> Any:
        found = own(self, batch, **given)
        sizes.append(len(batch.data[0]))
        return found

    monkeypatch.setattr(TrainingLoss, "evaluate", evaluate)
    return sizes


@pytest.mark.parametrize("loss", [mean, summed, unreadable])
@pytest.mark.parametrize("takes", [even, full])
def test_later_reports_are_verified_in_batches_that_the_step_takes(
    takes: Any, loss: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    repeated, found, costs = RepeatedLosses(), [], []

    def measure(loss: TrainingLoss) -> None:
        sizes.clear()
        for _ in range(3):
            found.append(repeated.of(loss).values)
            costs.append(sum(sizes) - sum(costs))
        assert loss.num_evaluated >= sum(sizes)  # with what has failed

    sizes = evaluated(monkeypatch)
    # so many that an odd number of a batch's samples is looked at again
    at_start(by_hand(choosy(takes, loss)), measure, regression_data(6 * BATCH))
    assert found[0].equal(found[1])
    assert found[0].equal(found[2])
    # only a part is looked at again
    assert max(costs[1:]) < costs[0]
    assert set(sizes) == {BATCH} if takes is full else all(size % 2 == 0 for size in sizes)


@pytest.mark.parametrize("takes", [anything, even, full])
def test_samples_that_meet_in_pairs_are_refused(takes: Any) -> None:
    with pytest.raises(RefusedError, match="not made of the losses of its samples"):
        measured(by_hand(choosy(takes, pairs)), DATA)


def test_under_noise_samples_that_meet_in_pairs_are_seen() -> None:
    # in any batch: a mirror image of one that stays cannot stay for each
    def keeps(loss: TrainingLoss) -> list[bool]:
        return [samples_keep_losses(loss, batch, "mean") for batch in loss.sample.batches]

    data = regression_data(40 * BATCH)
    assert not any(at_start(by_hand(choosy(anything, pairs)), keeps, data))
    assert all(at_start(by_hand(choosy(anything, mean)), keeps, data))


def no_copies(batch: Any) -> None:
    assert len(batch[0].unique(dim=0)) == len(batch[0]) == BATCH, "give the training inputs"


def large(batch: Any) -> None:
    batch[0].reshape(2 * BATCH, 4)


@pytest.mark.parametrize(
    ("step", "options", "reason"),
    [
        (choosy(no_copies, mean), {}, r"it fails on 1, 2, 4, 8 copies of one \(AssertionError: "),
        (choosy(large, unreadable), {"batch_size": 2 * BATCH}, "it takes 16 samples, or that num"),
        (choosy(even, lambda o, b: 5 * unreadable(o, b) * len(o)), {}, "2 samples, or a multiple"),
    ],
)
def test_what_takes_no_sample_alone_is_refused(
    step: Any, options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(RefusedError, match=reason):
        measured(by_hand(step), regression_data(4 * BATCH), **options)


def test_the_steps_own_error_is_the_cause_of_the_refusal() -> None:
    with pytest.raises(UntakenBatchError) as refused:
        measured(by_hand(choosy(no_copies, mean)), DATA)
    assert isinstance(refused.value.__cause__, AssertionError)


def test_an_error_that_comes_back_is_a_refusal_the_second_time() -> None:
    data = regression_data(BATCH)
    # one sample alone, and not the first of the frozen batch
    bad = data.tensors[2][shuffled(range(BATCH), 0)[3]]

    def needs_a_good_one(module: Any, batch: Any) -> Tensor:
        assert not (batch[2] == bad).all(), "nothing to learn from"
        return mean(module.network(batch[0]), batch)

    def measure(loss: TrainingLoss) -> None:
        repeated = RepeatedLosses()
        with pytest.raises(AssertionError, match="nothing to learn from"):
            repeated.of(loss)
        reason = r"fails on batches that samples are measured in \(AssertionError: nothing to le"
        with pytest.raises(UntakenBatchError, match=reason):
            repeated.of(loss)

    at_start(by_hand(needs_a_good_one), measure, data)


@pytest.mark.parametrize("unit", [1, 2, 6, 8])
@pytest.mark.parametrize("is_only", [False, True])
def test_a_filled_batch_has_each_sample_equally_often_and_a_size_that_is_taken(
    unit: int, is_only: bool
) -> None:
    filling = Filling(unit, is_only)
    batch = FrozenBatch(torch.arange(24.0), 24, 0, 24)
    for wanted in range(1, 2 if is_only and unit == 1 else 13):
        count = filling.most(wanted)
        assert 1 <= count <= wanted
        filled = filling.some_of(batch, range(count))
        assert filled.num_samples == unit if is_only else filled.num_samples % unit == 0
        assert set(filled.data.unique(return_counts=True)[1].tolist()) == {filling.copies(count)}
        assert filling.share(count, "sum") * filled.data.sum() == torch.arange(count).sum()
        # what is read off the first of it is that of the samples in their order
        assert filled.data[:count].tolist() == list(range(count))
