"""Freezing a sample: reproducible, augmented alike, and true in its sizes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from lightning_hessian.batches import FrozenBatches, TrainingData, freeze_batches
from lightning_hessian.errors import RefusedError


class Augmented:
    """Adds noise from each of the three global generators."""

    def __getitem__(self, index: int) -> tuple[int, float, float, float]:
        return index, float(torch.rand(())), float(np.random.rand()), random.random()  # noqa: NPY002


def reseed(index: int) -> None:
    torch.default_generator.manual_seed(index)
    np.random.seed(index)  # noqa: NPY002
    random.seed(index)


def data(indices: Sequence[int], batch_size: int = 4) -> TrainingData:
    return TrainingData(
        dataset=Augmented(),
        indices=indices,
        batch_size=batch_size,
        collate=list,
        description="the training set (Augmented)",
    )


def freeze(indices: Sequence[int] = range(11), **options: Any) -> FrozenBatches:
    defaults: dict[str, Any] = {"num_samples": "all", "batch_size": None, "seed": 0}
    return freeze_batches(data(indices), reseed=reseed, **(defaults | options))


def samples(batches: FrozenBatches) -> list[Any]:
    return [sample for batch in batches.batches for sample in batch.data]


@pytest.fixture(autouse=True)
def _generators_are_put_back() -> Any:
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    yield
    torch.set_rng_state(states[0])
    np.random.set_state(states[1])  # noqa: NPY002
    random.setstate(states[2])


def test_augmentation_is_the_same_whatever_the_batch_size_and_the_number_of_samples() -> None:
    whole = samples(freeze())
    assert samples(freeze(batch_size=1)) == whole
    assert samples(freeze(batch_size=100)) == whole
    few = samples(freeze(num_samples=5))
    assert few == whole[:5]
    assert len({sample[1:] for sample in whole}) == 11


def test_sizes_are_those_of_the_groups_with_the_rest_last() -> None:
    assert [batch.size for batch in freeze().batches] == [4, 4, 3]
    assert [batch.size for batch in freeze(batch_size=10).batches] == [10, 1]
    assert [batch.size for batch in freeze(num_samples=1).batches] == [1]
    assert freeze(num_samples=9).num_samples == 9


def test_positions_are_those_given() -> None:
    assert sorted(sample[0] for sample in samples(freeze([7, 5, 3]))) == [3, 5, 7]


@pytest.mark.parametrize(
    ("num_samples", "share"),
    [(5, "5 of 1,100"), (1100, "all 1,100"), (5000, "all 1,100")],
)
def test_the_description_tells_the_share(num_samples: Any, share: str) -> None:
    frozen = freeze(range(1100), num_samples=num_samples)
    assert frozen.description == f"{share} samples of the training set (Augmented)"


@pytest.mark.parametrize("num_processes", [2, 3, 4])
def test_shares_are_the_batches_of_one_process_dealt_out(num_processes: int) -> None:
    whole = freeze(batch_size=4)
    shares = [freeze(batch_size=4, share=(rank, num_processes)) for rank in range(num_processes)]
    dealt = sorted(
        (batch.index, batch.size, batch.data) for s in shares for batch in s.batches if batch.size
    )
    assert dealt == [(batch.index, batch.size, batch.data) for batch in whole.batches]
    assert sum(share.num_samples for share in shares) == whole.num_samples == 11
    assert {share.description for share in shares} == {whole.description}


def test_who_gets_no_batch_repeats_the_last_one_without_weight() -> None:
    share = freeze(batch_size=4, share=(3, 4))
    (repeated,) = share.batches
    last = freeze(batch_size=4).batches[-1]
    assert (repeated.data, repeated.index, repeated.size) == (last.data, last.index, 0)
    assert share.num_samples == 0


def test_an_empty_set_is_refused() -> None:
    with pytest.raises(RefusedError, match=r"\(Augmented\) is empty, .* at least one sample"):
        freeze([])
