"""Freezing a sample: reproducible, augmented alike, and true in its sizes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from lightning_hessian.data import (
    FrozenBatches,
    TrainingData,
    fetch_batches,
    plan_batches,
    weight_by,
)
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


def freeze(
    indices: Sequence[int] = range(11), share: tuple[int, int] = (0, 1), **options: Any
) -> FrozenBatches:
    defaults: dict[str, Any] = {"num_samples": "all", "batch_size": None, "seed": 0}
    plan = plan_batches(data(indices), **(defaults | options))
    return fetch_batches(plan, reset=reseed, reseed=reseed, share=share)


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
    assert [batch.weight for batch in freeze().batches] == [4, 4, 3]
    assert [batch.weight for batch in freeze(batch_size=10).batches] == [10, 1]
    assert [batch.weight for batch in freeze(num_samples=1).batches] == [1]
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


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_shares_are_the_batches_of_one_process_dealt_out(size: int) -> None:
    source = Accumulating()
    plan = plan_batches(
        replace(data(range(11)), dataset=source), num_samples="all", batch_size=3, seed=0
    )

    def reset(_: int) -> None:
        source.fetched = 0

    def fetched(share: tuple[int, int]) -> FrozenBatches:
        return fetch_batches(plan, reset=reset, reseed=reseed, share=share)

    whole = fetched((0, 1))
    shares = [fetched((rank, size)) for rank in range(size)]
    dealt = sorted((b.index, b.weight, b.data) for s in shares for b in s.batches if b.weight)
    assert dealt == [(b.index, b.weight, b.data) for b in whole.batches]
    assert sum(share.num_samples for share in shares) == whole.num_samples == 11
    assert {share.description for share in shares} == {whole.description}
    assert [b.index for b in shares[0].batches] == list(range(0, 4, size))


def test_who_gets_no_batch_repeats_the_last_one_without_weight() -> None:
    share = freeze(batch_size=4, share=(3, 4))
    (repeated,) = share.batches
    last = freeze(batch_size=4).batches[-1]
    assert (repeated.data, repeated.index, repeated.weight) == (last.data, last.index, 0)
    assert share.num_samples == 0


def test_an_empty_set_is_refused() -> None:
    with pytest.raises(RefusedError, match=r"\(Augmented\) is empty, .* at least one sample"):
        freeze([])


class Accumulating:
    """Its samples depend on all that were fetched before, unless that is undone."""

    fetched = 0

    def __getitem__(self, index: int) -> tuple[int, int]:
        self.fetched += 1
        return index, self.fetched


def test_a_users_weights_take_the_place_of_the_sizes() -> None:
    plan = plan_batches(data(range(11)), num_samples="all", batch_size=None, seed=0)
    frozen = fetch_batches(
        plan, reset=reseed, reseed=reseed, weight_fn=lambda batch: torch.tensor(len(batch) / 2)
    )
    assert [batch.weight for batch in frozen.batches] == [2.0, 2.0, 1.5]
    assert frozen.num_samples == 11
    assert frozen.description.endswith("(Augmented), weighted by `weight_fn`")


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_a_weight_that_is_not_positive_is_refused(weight: float) -> None:
    with pytest.raises(RefusedError, match=rf"`weight_fn` must return a positive .* got {weight}"):
        weight_by(lambda _: weight, None)
