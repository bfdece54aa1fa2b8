"""Frozen batches of several loaders against what Lightning's own combination gives."""

from __future__ import annotations

from collections import Counter, namedtuple
from collections.abc import Iterable
from dataclasses import replace
from itertools import chain
from math import inf
from typing import Any

import pytest
import torch
from lightning.pytorch.utilities.combined_loader import CombinedLoader
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, SubsetRandomSampler

from lightning_hessian.data import FrozenBatches, Loaders, fetch_batches
from lightning_hessian.errors import RefusedError
from tests.helpers import hard_modules as hard
from tests.helpers.fitting import Classifier, trainer
from tests.objective.test_training_data import Numbered, Pairs

MODES = ("max_size_cycle", "max_size", "min_size")
Two = namedtuple("Two", ["few", "many"])


class SumsParts(Classifier):
    """The loss is the sum over whatever loaders gave something."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        parts = [part for part in leaves(batch) if part is not None]
        return sum(F.cross_entropy(self.network(x), y) for x, y in parts)  # type: ignore[return-value]


def leaves(batch: Any) -> list[Any]:
    """The loaders' batches in a structure: pairs of tensors, or None."""
    if batch is None or isinstance(batch[0] if isinstance(batch, list) else None, Tensor):
        return [batch]
    inner = batch.values() if isinstance(batch, dict) else batch
    return [leaf for each in inner for leaf in leaves(each)]


def flat(groups: Iterable[list[Any]]) -> list[Any]:
    return list(chain.from_iterable(groups))


def few(**options: Any) -> DataLoader[Any]:
    return DataLoader(Numbered(7), **({"batch_size": 3} | options))


def many(**options: Any) -> DataLoader[Any]:
    return DataLoader(Numbered(26), **({"batch_size": 5} | options))


def measured(loaders: Any, fit: Any = None, **options: Any) -> hard.DenseHessian:
    probe = hard.DenseHessian(**options)
    module = SumsParts(hard.seeded(lambda: hard.mlp()).network, lr=0.0)
    trainer(probe, **({"max_steps": 1} | (fit or {}))).fit(module, loaders)
    return probe


def frozen(structure: Any, *, max_batches: float = inf, **options: Any) -> FrozenBatches:
    """The frozen batches of loaders without a fit."""
    loaders = replace(Loaders.of(structure, name="the set"), max_batches=max_batches)
    defaults = {"num_samples": "all", "batch_size": None, "seed": 0}
    plan = loaders.plan(**(defaults | options))
    return fetch_batches(plan, reset=torch.manual_seed, reseed=torch.manual_seed)


def shapes(batches: FrozenBatches) -> list[str]:
    return [shape(batch.data) for batch in batches.batches]


def shape(batch: Any) -> str:
    """A batch with its types, each sample by its number."""
    if isinstance(batch, Tensor):
        return str(batch[:, 0].long().tolist()) if batch.ndim == 2 else "y"
    if isinstance(batch, dict):
        return str({key: shape(value) for key, value in batch.items()})
    if batch is None:
        return "None"
    return f"{type(batch).__name__} {[shape(value) for value in batch]}"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "structure",
    [
        lambda: {"few": few(), "many": many()},
        lambda: [many(), few()],
        lambda: Two(few(), many()),
        lambda: {"deep": [few(), {"er": many()}], "third": few(batch_size=2)},
        lambda: {"few": few(batch_size=2, drop_last=True), "many": many(drop_last=True)},
    ],
    ids=["dict", "list", "namedtuple", "nested", "drop-last"],
)
def test_of_loaders_in_order_frozen_batches_are_the_steps_of_lightnings_epoch(
    mode: Any, structure: Any
) -> None:
    found = shapes(frozen(CombinedLoader(structure(), mode)))
    steps = [batch for batch, _, _ in CombinedLoader(structure(), mode)]
    assert Counter(found) == Counter(shape(step) for step in steps)
    assert len(found) > 1


def test_a_shuffled_loader_that_drops_its_last_batch_gives_full_ones_only() -> None:
    pair = {"many": many(), "few": few(batch_size=2, shuffle=True, drop_last=True)}
    sizes = [len(batch.data["few"][0]) for batch in frozen(pair).batches]
    assert sizes == [2] * 6  # a cycle of three, and not a fourth of one sample


@pytest.mark.parametrize("mode", [None, "max_size", "min_size"])
def test_a_fit_tells_its_mode_or_has_lightnings_default(mode: Any) -> None:
    def pair() -> dict[str, Any]:
        return {"few": few(), "many": many()}

    probe = measured(pair() if mode is None else CombinedLoader(pair(), mode))
    steps = [b for b, _, _ in CombinedLoader(pair(), mode or "max_size_cycle")]
    assert Counter(shape(b.data) for b in probe.batches) == Counter(map(shape, steps))


@pytest.mark.parametrize(("mode", "nones"), [("max_size", 3), ("max_size_cycle", 0)])
def test_shuffled_loaders_keep_to_their_own_samples_and_are_not_aligned(
    mode: Any, nones: int
) -> None:
    pair = {"a": many(shuffle=True), "b": many(shuffle=True), "few": few(shuffle=True)}
    probe = frozen(CombinedLoader(pair, mode))
    drawn = {
        key: [b.data[key][0][:, 0].long().tolist() for b in probe.batches if b.data[key]]
        for key in pair
    }
    for key in "ab":
        assert sorted(flat(drawn[key])) == list(range(26))
    # independent shuffles: nearly no sample meets itself
    meetings = zip(flat(drawn["a"]), flat(drawn["b"]), strict=True)
    assert sum(a == b for a, b in meetings) <= 5
    assert sum(b.data["few"] is None for b in probe.batches) == nones
    assert {len(group) for group in drawn["few"]} == {3, 1}
    assert set(flat(drawn["few"])) == set(range(7))


def test_few_steps_are_drawn_by_the_seed_until_there_are_enough_samples() -> None:
    def drawn(**options: Any) -> list[str]:
        return shapes(frozen({"few": few(), "many": many(batch_size=2)}, num_samples=9, **options))

    assert len(drawn()) == 5
    assert drawn() == drawn()
    assert drawn() != drawn(seed=1)


def test_a_step_weighs_its_samples_of_the_loader_that_sets_the_length() -> None:
    longest = frozen({"few": few(), "many": many()})
    assert sorted(b.weight for b in longest.batches) == [1, 5, 5, 5, 5, 5]
    assert longest.num_samples == 26
    assert longest.description == (
        "all 6 steps of an epoch over 2 loaders (max_size_cycle) of the set (Numbered) and the "
        "set (Numbered), weighted by their 26 samples of the one that sets its length "
        "(the set (Numbered))"
    )
    shortest = frozen(CombinedLoader([few(), many()], "min_size"))
    assert sorted(b.weight for b in shortest.batches) == [1, 3, 3]
    assert shortest.num_samples == 7
    some = frozen({"few": few(), "many": many(batch_size=2)}, num_samples=9)
    assert some.num_samples == 10
    assert some.description.startswith("5 of 13 steps")


class OnOneStep(SumsParts):
    """Its loss is that of a batch of its own."""

    def __init__(self, batch: Any) -> None:
        super().__init__(hard.seeded(lambda: hard.mlp()).network)
        self.batch = {key: [x.double(), y] for key, (x, y) in batch.items()}

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return super().training_step(self.batch, batch_idx)


def test_the_hessian_is_the_weighted_mean_over_steps() -> None:
    probe = measured({"few": few(), "many": many(batch_size=11)}, precision=64)
    assert sorted(batch.weight for batch in probe.batches) == [4, 11, 11]
    wanted = sum(
        batch.weight / 26 * hard.hessian_by_differences(OnOneStep(batch.data), [[]])
        for batch in probe.batches
    )
    assert hard.off_by(probe.matrix, torch.as_tensor(wanted)) < 1e-8


def test_a_collection_of_one_loader_has_the_samples_of_that_loader() -> None:
    alone = measured(DataLoader(Numbered(26), batch_size=5, shuffle=True), num_samples=12)
    listed = measured([DataLoader(Numbered(26), batch_size=5, shuffle=True)], num_samples=12)
    assert all(type(b.data) is list and len(b.data) == 1 for b in listed.batches)
    assert [shape(b.data[0]) for b in listed.batches] == [shape(b.data) for b in alone.batches]
    assert listed.matrix.equal(alone.matrix)


@pytest.mark.parametrize("mode", MODES)
def test_only_steps_and_samples_that_training_reaches_count(mode: Any) -> None:
    def pair() -> dict[str, Any]:
        return {"few": few(batch_size=2), "many": many()}

    steps = [batch for batch, _, _ in CombinedLoader(pair(), mode)][:2]
    found = shapes(frozen(CombinedLoader(pair(), mode), max_batches=2))
    assert Counter(found) == Counter(map(shape, steps))


def test_a_fits_limit_reaches_the_loaders() -> None:
    fit = {"max_epochs": 1, "limit_train_batches": 2}
    probe = measured({"few": few(batch_size=2), "many": many()}, fit=fit)
    assert len(probe.batches) == 2


@pytest.mark.filterwarnings("ignore:You requested to overfit.*")
def test_overfitting_keeps_to_the_first_batches_of_each_loader() -> None:
    pair = {"few": few(shuffle=True), "many": many(shuffle=True)}
    probe = measured(pair, fit={"max_epochs": 1, "overfit_batches": 2})
    assert sorted(shape(b.data["many"][0]) for b in probe.batches) == [
        "[0, 1, 2, 3, 4]",
        "[5, 6, 7, 8, 9]",
    ]


def test_a_subset_sampler_in_a_collection_keeps_to_its_subset() -> None:
    sampler = SubsetRandomSampler([3, 1, 4, 15, 9])
    probe = frozen({"subset": many(sampler=sampler, batch_size=2), "few": few()})
    drawn = flat(b.data["subset"][0][:, 0].tolist() for b in probe.batches)
    assert sorted(drawn) == [1, 3, 4, 9, 15]


class Noisy(Numbered):
    """Adds random augmentation."""

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        features, label = super().__getitem__(index)
        features[3] = torch.rand(())
        return features, label


def test_augmentation_differs_between_loaders_and_is_repeated() -> None:
    def noise() -> list[list[float]]:
        pair = [DataLoader(Noisy(6), batch_size=2), DataLoader(Noisy(6), batch_size=2)]
        return [[part[0][0, 3].item() for part in batch.data] for batch in measured(pair).batches]

    first = noise()
    assert first == noise()
    assert len({value for values in first for value in values}) == 6


@pytest.mark.parametrize(
    ("loaders", "options", "reason"),
    [
        ([few(), many()], {"batch_size": 4}, "must be None for a collection of 2 loaders.*got 4"),
        ([few(), DataLoader(Numbered(), batch_sampler=Pairs())], {}, "its Pairs has no integer"),
    ],
)
def test_collections_whose_batches_are_not_told_are_refused(
    loaders: Any, options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(RefusedError, match=reason):
        frozen(loaders, **options)
