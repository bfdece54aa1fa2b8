"""The losses of samples are verified in full once, in part again, and anew where that fails."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_hessian.errors import RefusedError
from lightning_hessian.loss import TrainingLoss
from lightning_hessian.sample_losses import RepeatedLosses, SampleLosses, samples_checked
from lightning_hessian.sample_losses.one_by_one import Positions
from lightning_hessian.sample_losses.regrouped import MOST_JOINED, GraphSize, regrouped
from tests.helpers.sample_losses import at_start, by_hand, regression_data

Evaluated = list[int]
"""Samples in each call of the step."""


def cross_entropy(m: Any, batch: Any) -> Tensor:
    return F.cross_entropy(m.network(batch[0]), batch[1])


def watched(
    monkeypatch: pytest.MonkeyPatch,
    step: Any,
    again: Callable[[int], Any] = lambda _: None,
    *,
    reports: int = 3,
    count: int = 200,
    may_regroup: bool = True,
    **options: Any,
) -> list[tuple[SampleLosses, Evaluated]]:
    """Several reports on the same samples, and the calls that each made of the step."""
    own = TrainingLoss.evaluate
    calls: Evaluated = []

    def evaluate(self: TrainingLoss, batch: Any, **given: Any) -> Any:
        calls.append(len(batch.data[0]))
        return own(self, batch, **given)

    monkeypatch.setattr(TrainingLoss, "evaluate", evaluate)
    repeated, found = RepeatedLosses(may_regroup=may_regroup), []

    def measure(loss: TrainingLoss) -> None:
        for number in range(reports):
            again(number)
            calls.clear()
            losses = repeated.of(loss)
            found.append((losses, list(calls)))
            assert loss.num_evaluated == sum(sum(part) for _, part in found)

    at_start(by_hand(step), measure, regression_data(count), **options)
    return found


def test_all_is_verified_in_the_first_report_and_a_sixteenth_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (first, calls), *later = watched(monkeypatch, cross_entropy)
    # six alone, together and again; the frozen batches; two of each size alone (all have eight);
    # and the two sides of all
    assert calls == [6, *[1] * 6, 6, *[8] * 25, 1, 1, 100, 100]
    assert sum(calls) == 2 * 200 + 20
    for losses, again in later:
        # a batch has eight samples, of which all are looked at again, and one alone
        assert again == [100, 100, 8, 1]
        assert losses.values.equal(first.values)
        assert (losses.separability, losses.method) == ("mean", "batched")
    assert samples_checked(200) == 1 + 12


def test_each_report_looks_at_another_batch_again(monkeypatch: pytest.MonkeyPatch) -> None:
    found = watched(monkeypatch, cross_entropy, count=26, reports=6)
    turns = [losses.verified.turn for losses, _ in found if losses.verified is not None]
    assert turns == [1, 2, 3, 4, 5, 6]


def test_where_no_larger_batches_are_wanted_training_s_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (first, calls), (second, again) = watched(
        monkeypatch, cross_entropy, reports=2, may_regroup=False
    )
    # two halves of each batch in place of the groups
    assert calls == [6, *[1] * 6, 6, *[8] * 25, 1, 1, *[4] * 50]
    assert again == [*[8] * 25, 4, 1]
    assert first.values.equal(second.values)


def test_one_by_one_only_the_batches_are_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    def step(m: Any, batch: Any) -> Tensor:
        error = (m.network(batch[0]) - batch[2]).flatten()
        return error @ error / len(batch[0])

    (first, calls), (second, again) = watched(monkeypatch, step, reports=2)
    assert calls == [6, *[1] * 6, 6, *[8] * 25, *[1] * 200, *[4] * 50]
    assert again == [*[1] * 200, 8]
    assert first.method == second.method == "one by one"


class Switch:
    """A form of the loss that can be changed between two reports; in slots, out of sight."""

    __slots__ = ("number",)

    def __init__(self) -> None:
        self.number = 0

    def set(self, number: int) -> None:
        self.number = number


SWITCH = Switch()


@pytest.fixture(autouse=True)
def _put_back() -> Any:
    yield
    SWITCH.set(0)


def changing(before: Any, after: Any) -> Any:
    """Another form from the second report on."""
    return lambda m, batch: (after if SWITCH.number else before)(m, batch)


def summed(m: Any, batch: Any) -> Tensor:
    return F.cross_entropy(m.network(batch[0]), batch[1], reduction="sum")


def weighted(m: Any, batch: Any) -> Tensor:
    weight = torch.tensor([0.5, 1.0, 2.5]).to(batch[0])
    return F.cross_entropy(m.network(batch[0]), batch[1], weight)


def not_readable(m: Any, batch: Any) -> Tensor:
    each = F.cross_entropy(m.network(batch[0]), batch[1], reduction="none")
    return each @ torch.ones_like(each) / len(each)


FORMS = [
    (summed, "sum", "batched"),
    (weighted, "weighted mean", "batched"),
    (not_readable, "mean", "one by one"),
]


@pytest.mark.sampled
@pytest.mark.parametrize("may_regroup", [True, False])
@pytest.mark.parametrize(("after", "separability", "method"), FORMS)
def test_another_form_of_the_loss_is_found(
    monkeypatch: pytest.MonkeyPatch, after: Any, separability: str, method: str, may_regroup: bool
) -> None:
    step = changing(cross_entropy, after)
    _, (second, calls), (third, again) = watched(
        monkeypatch, step, SWITCH.set, may_regroup=may_regroup
    )
    assert (second.separability, second.method) == (separability, method)
    assert calls.count(6) >= 2  # verified in full, with a handful
    assert again.count(6) == 0
    assert second.values.equal(third.values)


@pytest.mark.sampled
@pytest.mark.parametrize("may_regroup", [True, False])
@pytest.mark.parametrize(("before", "separability", "method"), FORMS)
def test_and_so_is_the_way_back(
    monkeypatch: pytest.MonkeyPatch, before: Any, separability: str, method: str, may_regroup: bool
) -> None:
    step = changing(before, cross_entropy)
    (first, _), (second, _) = watched(
        monkeypatch, step, SWITCH.set, reports=2, may_regroup=may_regroup
    )
    assert (first.separability, first.method) == (separability, method)
    wanted, _ = watched(monkeypatch, cross_entropy, reports=1, may_regroup=may_regroup)[0]
    torch.testing.assert_close(second.values, wanted.values, rtol=1e-6, atol=1e-6)
    # computed one by one, as it was, they are as right; a weighted mean may be one of equal weights
    assert second.separability == ("weighted mean" if separability == "weighted mean" else "mean")


def centred(m: Any, batch: Any) -> Tensor:
    out = m.network(batch[0])
    return F.cross_entropy(out - out.mean(dim=0), batch[1])


def contrastive(m: Any, batch: Any) -> Tensor:
    features = F.normalize(m.network(batch[0]), dim=-1)
    return F.cross_entropy(features @ features.T, torch.arange(len(features)))


def mean_margin(m: Any, batch: Any) -> Tensor:
    # made up of rows like any mean; only their values are of the batch
    out = m.network(batch[0])
    return F.cross_entropy(out + 0.3 * out.std(dim=0, correction=0), batch[1])


def noisy(m: Any, batch: Any) -> Tensor:
    out = m.network(batch[0])
    return F.cross_entropy(out + 0.1 * torch.randn_like(out), batch[1])


@pytest.mark.sampled
@pytest.mark.parametrize("may_regroup", [True, False])
@pytest.mark.parametrize(
    ("after", "reason"),
    [
        (centred, "is not made of the losses of its samples"),
        (contrastive, "is not made of the losses of its samples"),
        (mean_margin, "is not made of the losses of its samples"),
    ],
)
@pytest.mark.parametrize("before", [cross_entropy, summed, weighted, not_readable])
def test_a_loss_that_comes_to_be_of_other_samples_is_refused(
    monkeypatch: pytest.MonkeyPatch, before: Any, after: Any, reason: str, may_regroup: bool
) -> None:
    step = changing(before, after)
    with pytest.raises(RefusedError, match=reason):
        watched(monkeypatch, step, SWITCH.set, reports=2, may_regroup=may_regroup)


def test_a_loss_that_comes_to_be_noisy_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    found = watched(monkeypatch, changing(cross_entropy, noisy), SWITCH.set, reports=3)
    codes = [[note.code for note in losses.notes] for losses, _ in found]
    assert codes == [[], ["noise-frozen"], ["noise-frozen"]]
    _, (_, anew), (_, again) = found
    # each of 25 batches, and twice again with other samples in half its seats; later of one alone
    assert anew[-75:] == [8] * 75
    assert again == [8] * 27


def test_what_is_too_small_to_be_verified_is_not_relied_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def step(m: Any, batch: Any) -> Tensor:
        scale = 1.0 if SWITCH.number else 1e-7
        out = m.network(batch[0])
        return scale * F.cross_entropy(out - SWITCH.number * out.mean(dim=0), batch[1])

    with pytest.raises(RefusedError, match="not made of the losses"):
        watched(monkeypatch, step, SWITCH.set, reports=2)
    SWITCH.set(0)
    for losses, calls in watched(monkeypatch, step, reports=2):
        assert losses.verified is None
        assert calls.count(6) == 2


@pytest.mark.parametrize("make", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_a_copy_remembers_nothing(make: Callable[[Any], Any]) -> None:
    repeated = RepeatedLosses(may_regroup=False)

    def measure(loss: TrainingLoss) -> tuple[SampleLosses, SampleLosses]:
        return repeated.of(loss), make(repeated).of(loss)

    first, other = at_start(by_hand(cross_entropy), measure, regression_data())
    assert first.verified == other.verified
    assert other.verified.turn == 1


def test_groups_hold_each_sample_once_and_part_the_halves_of_each_batch() -> None:
    def look(loss: TrainingLoss) -> tuple[Any, Any]:
        groups = regrouped(loss, Positions.of(loss), 2)
        return groups, [loss.sample.batches, Positions.of(loss)]

    groups, (batches, positions) = at_start(by_hand(cross_entropy), look, regression_data(200))
    standing = torch.cat([group.positions for group in groups])
    assert standing.sort().values.equal(torch.arange(200))
    assert max(group.batch.num_samples for group in groups) <= 2 * 8
    for batch in batches:
        rows = positions.rows(batch)
        own = torch.arange(rows.start, rows.stop)
        parts = [int(torch.isin(own, group.positions).sum()) for group in groups]
        assert sorted(parts)[-2:] == [4, 4]
    for group in groups:
        inputs = torch.cat([batch.data[0] for batch in batches])
        assert group.batch.data[0].equal(inputs[group.positions])


@pytest.mark.parametrize(("width", "joined"), [(8, MOST_JOINED), (2**17, 3), (2**19, 1)])
def test_groups_are_no_larger_than_graphs_may_be(width: int, joined: int) -> None:
    def look(loss: TrainingLoss) -> int:
        size = GraphSize(loss)
        output = loss.evaluate(loss.sample.batches[0])
        assert output is not None
        size.see(output)
        return size.num_joined()

    class Wide(nn.Module):
        """Keeps ``2 * 8 * width`` numbers of four bytes for the derivatives of eight samples."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))
            self.out = nn.Linear(4, 3)

        def forward(self, inputs: Tensor) -> Tensor:
            wide = self.weight * torch.ones(len(inputs), width)
            return self.out(inputs) + wide.exp().mean(dim=1, keepdim=True)

    found = at_start(by_hand(cross_entropy, Wide()), look, regression_data(200))
    assert found == joined
