"""Processes that train on a stream capture batches of their own; given ones they share."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest
from torch import Tensor
from torch.utils.data import DataLoader

from tests.callbacks.test_capture import Captured, Endless, Repeating, rows_of
from tests.helpers import hard_modules as hard
from tests.helpers.fitting import Classifier, trainer
from tests.helpers.processes import ddp_trainer, in_processes
from tests.objective.test_given_data import Batches
from tests.objective.test_training_data import Numbered


def module() -> Classifier:
    return Classifier(hard.seeded(lambda: hard.mlp()).network, lr=0.0)


def stream(rank: int) -> DataLoader[Any]:
    data = Endless()
    data.generator.manual_seed(rank)
    return DataLoader(data, batch_size=4)


def measured(rank: int, given: Any) -> tuple[Tensor, int, list[Any], str]:
    probe = Captured(num_samples=13, precision=64, dataloader=given)
    ddp_trainer(probe, max_steps=3).fit(module(), stream(rank))
    parts = [(b.index, b.weight, b.data[0]) for b in probe.batches]
    return probe.matrix, probe.num_samples, parts, probe.description


def test_the_loss_is_the_mean_over_the_batches_captured_by_all_processes() -> None:
    (first, count, mine, text), (second, its_count, other, _) = in_processes(
        lambda rank: measured(rank, None)
    )
    assert first.equal(second)
    # each process its part: 7 of 13 samples, which take two batches
    assert [index for index, _, _ in mine + other] == [0, 2, 1, 3]
    assert count == its_count == 16
    assert "the first 2 batches (8 samples)" in text
    assert text.endswith("of their tensors, on each of 2 processes")
    seen = [next(iter(stream(rank))) for rank in range(2)]
    assert all(part[0][2].equal(batch[0]) for part, batch in zip((mine, other), seen, strict=True))
    batches = []
    for rank in range(2):
        iterator = iter(stream(rank))
        batches += [next(iterator), next(iterator)]
    wanted = hard.hessian_by_differences(module(), batches)
    assert hard.off_by(first, wanted) < 1e-8


class Part(Repeating):
    """Every other sample, in each epoch again."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self.rank = rank

    def __iter__(self) -> Iterator[Any]:
        return islice(super().__iter__(), self.rank, None, 2)


def once(rank: int) -> tuple[list[int], int, float]:
    probe = Captured(num_samples=99, precision=64)
    ddp_trainer(probe, max_epochs=3).fit(module(), DataLoader(Part(rank), batch_size=4))
    batches = [batch for batch in probe.batches if not batch.is_repeat]
    return rows_of(batches), probe.num_samples, probe.loss


@pytest.mark.slow
def test_of_streams_that_repeat_themselves_each_process_holds_its_part_once() -> None:
    (first, count, loss), (second, *others) = in_processes(once)
    assert [count, loss] == others
    assert sorted(first + second) == list(range(26))
    assert count == 26
    alone = hard.DenseHessian(precision=64)
    trainer(alone, max_steps=1).fit(module(), DataLoader(Numbered(), batch_size=4))
    assert loss == pytest.approx(alone.loss, rel=1e-12)


def test_given_batches_are_dealt_out() -> None:
    batches = list(Batches(6, 6, 6))
    (first, count, mine, _), (second, _, other, _) = in_processes(
        lambda rank: measured(rank, batches)
    )
    assert first.equal(second)
    assert count == 18
    # a repeat without weight keeps the second process in step
    assert [(index, weight) for index, weight, _ in mine] == [(0, 6), (2, 6)]
    assert [(index, weight) for index, weight, _ in other] == [(1, 6), (1, 0)]
    wanted = hard.hessian_by_differences(module(), batches)
    assert hard.off_by(first, wanted) < 1e-8
