"""Two processes measure the samples that they train on together, by whatever sampler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import pytest
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    RandomSampler,
    SequentialSampler,
)

from lightning_hessian.errors import RefusedError
from tests.callbacks.test_capture import Sees
from tests.helpers import hard_modules as hard
from tests.helpers.fitting import trainer
from tests.helpers.processes import ddp_trainer, in_processes
from tests.objective.test_as_drawn import LeastSquares, balanced, gram, weights
from tests.objective.test_training_data import Lists, Numbered, OddSampler


class Ordered(Sees):
    """Deals its samples out in their order, of which Lightning would make a shuffled one."""

    def __init__(self, *, count: int = 26, drop_last: bool = False) -> None:
        super().__init__()
        self.count, self.drop_last = count, drop_last

    def train_dataloader(self) -> DataLoader[Any]:
        data = Numbered(self.count)
        dealt = DistributedSampler(
            data,
            num_replicas=self.trainer.world_size,
            rank=self.trainer.global_rank,
            shuffle=False,
            drop_last=self.drop_last,
        )
        return DataLoader(data, batch_size=4, sampler=dealt)


Found = tuple[list[int], list[int], float]


def fitted(make: Callable[..., pl.Trainer], module: Sees, train: Any, **fit: Any) -> Found:
    """The numbers of the samples measured and of those trained on, and the loss measured."""
    probe = hard.DenseHessian(precision=64, **fit.pop("options", {}))
    make(probe, **({"max_epochs": 1} | fit)).fit(module, train)
    measured = (batch.data[0] for batch in probe.batches if not batch.is_repeat)
    found, seen = (
        [int(n) for inputs in batches for n in inputs[:, 0]]
        for batches in (measured, (batch[0] for batch in module.seen))
    )
    return found, seen, probe.loss


def lists(sampler: Any) -> DataLoader[Any]:
    batches = BatchSampler(sampler(range(26)), 8, drop_last=False)
    return DataLoader(Lists(), sampler=batches, batch_size=None)


CASES: dict[str, tuple[Callable[[Any], Found], int]] = {
    "limit": (lambda make: fitted(make, Ordered(), None, limit_train_batches=2), 16),
    "dropped": (lambda make: fitted(make, Ordered(count=27, drop_last=True), None), 26),
    "lists": (lambda make: fitted(make, Sees(), lists(RandomSampler)), 26),
    "lists in order": (lambda make: fitted(make, Sees(), lists(SequentialSampler)), 26),
}


@pytest.mark.sampled
@pytest.mark.parametrize("name", CASES)
def test_the_samples_that_training_sees_are_measured(name: str) -> None:
    part, count = CASES[name]
    first, second = in_processes(lambda _: part(ddp_trainer))
    assert sorted(first[0] + second[0]) == sorted({*first[1], *second[1]}) == list(range(count))
    # one process that sees them has the same loss
    alone = hard.DenseHessian(precision=64)
    trainer(alone, max_steps=1).fit(Sees(), DataLoader(Numbered(count), batch_size=4))
    assert first[2] == second[2] == pytest.approx(alone.loss, rel=1e-12)


def weighted(rank: int) -> tuple[Tensor, str, str]:
    probe = hard.DenseHessian(sampling="as_drawn")
    ddp_trainer(probe, max_steps=1).fit(LeastSquares(), balanced())
    odd = hard.DenseHessian(sampling="as_drawn")
    loader = DataLoader(Numbered(), batch_size=4, sampler=OddSampler())
    with pytest.raises(RefusedError) as refusal:
        ddp_trainer(odd, max_steps=1).fit(Sees(), loader)
    return probe.matrix, probe.description, str(refusal.value)


def test_weights_are_read_by_all_and_other_samplers_refused() -> None:
    (first, described, refusal), (second, *_) = in_processes(weighted)
    assert first.equal(second)
    assert hard.off_by(first, gram(weights())) < 1e-13
    assert "all 88 samples" in described
    assert "takes one process where a OddSampler has to draw" in refusal
    assert "got 2, of which each may draw its own. Give a `WeightedRandomSampler`" in refusal
