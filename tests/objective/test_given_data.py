"""Frozen batches from a loader that the user gives, by the option or by the hook."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.utilities.combined_loader import CombinedLoader
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, WeightedRandomSampler

from lightning_hessian import Loss
from lightning_hessian.errors import RefusedError
from tests.helpers import hard_modules as hard
from tests.helpers.fitting import Classifier, loader, trainer
from tests.helpers.spectrum import spectrum
from tests.objective.test_combined_data import SumsParts
from tests.objective.test_training_data import IteratesItself, Numbered, OddSampler, Pairs


class Stream(IterableDataset[Any]):
    """Gives the numbered samples in turn and keeps its position, with noise."""

    def __init__(self, count: int = 26, noise: float = 0.0) -> None:
        self.count, self.noise, self.position = count, noise, 0
        self.generator = torch.Generator().manual_seed(0)

    def __iter__(self) -> Iterator[Any]:
        for index in range(self.count):
            self.position = index
            features, label = Numbered()[index]
            noise = torch.rand((), generator=self.generator) + torch.rand(())
            features[3] += self.noise * noise
            yield features, label


class Batches:
    """Any iterable of batches."""

    def __init__(self, *sizes: int) -> None:
        self.sizes = sizes

    def __iter__(self) -> Iterator[Any]:
        for size in self.sizes:
            yield torch.arange(4.0 * size).reshape(size, 4), torch.zeros(size).long()


def measured(given: Any = None, train: Any = None, **options: Any) -> hard.DenseHessian:
    probe = hard.DenseHessian(dataloader=given, **options)
    module = hard.seeded(lambda: hard.mlp(), lr=0.0)
    trainer(probe, max_steps=1).fit(module, loader() if train is None else train)
    return probe


def numbers(probe: hard.DenseHessian) -> list[int]:
    return list(chain(*(batch.data[0][:, 0].long().tolist() for batch in probe.batches)))


def test_of_an_indexable_loader_samples_are_drawn_by_the_seed() -> None:
    given = DataLoader(Numbered(), batch_size=4, shuffle=True)
    probe = measured(given, num_samples=10)
    assert [batch.weight for batch in probe.batches] == [4, 4, 2]
    assert numbers(probe) == numbers(measured(given, num_samples=10, batch_size=3))
    assert probe.description == ("10 of 26 samples of the loader given by `dataloader` (Numbered)")


def test_a_given_loader_without_shuffling_is_taken_as_it_is() -> None:
    given = DataLoader(Numbered(), batch_size=8)
    probe = measured(given)
    assert [batch.data[0][:, 0].long().tolist() for batch in probe.batches] == [
        list(range(start, min(start + 8, 26))) for start in range(0, 26, 8)
    ]
    assert numbers(measured(given, num_samples=10)) == list(range(16))
    # but with a size of their own, the samples are drawn
    assert sorted(numbers(measured(given, batch_size=5))) == list(range(26))


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (DataLoader(Stream(), batch_size=4), [4, 4, 4]),
        (DataLoader(Numbered(), batch_size=4, sampler=OddSampler()), [4]),
        (DataLoader(Numbered(), batch_sampler=Pairs()), [2, 2, 2, 2, 2]),
        (IteratesItself(Numbered(), batch_size=6), [6, 6]),
        (Batches(5, 5, 5, 5), [5, 5]),
        (list(Batches(4, 4, 1)), [4, 4, 1]),
    ],
    ids=["stream", "odd sampler", "batch sampler", "own iteration", "object", "list"],
)
def test_whole_batches_of_any_other_loader_are_taken_until_there_are_enough_samples(
    given: Any, taken: list[int]
) -> None:
    probe = measured(given, num_samples=9)
    assert [batch.weight for batch in probe.batches] == taken
    assert [len(batch.data[0]) for batch in probe.batches] == taken
    assert probe.num_samples == sum(taken)
    wanted = [x for x, _ in given]
    assert all(b.data[0].equal(x) for b, x in zip(probe.batches, wanted, strict=False))


def test_all_batches_are_taken_until_the_loader_is_exhausted_and_the_text_says_so() -> None:
    probe = measured(DataLoader(Stream(), batch_size=10))
    assert numbers(probe) == list(range(26))
    assert probe.description == (
        "all 3 batches (26 samples) of the loader given by `dataloader` (Stream), counted by the "
        "first dimension of their tensors"
    )
    some = measured(DataLoader(Stream(), batch_size=10), num_samples=15)
    assert some.description.startswith("the first 2 batches (20 samples) of the loader")


def test_the_hessian_is_that_of_the_given_batches_by_their_weights() -> None:
    batches = list(Batches(6, 6, 2))
    plain = measured(batches, precision=64)
    parts = [hard.hessian_by_differences(hard.seeded(lambda: hard.mlp()), [b]) for b in batches]
    wanted = (6 * parts[0] + 6 * parts[1] + 2 * parts[2]) / 14
    assert hard.off_by(plain.matrix, wanted) < 1e-8
    ours = measured(batches, precision=64, weight_fn=lambda batch: 0.5 if len(batch[1]) > 2 else 3)
    assert hard.off_by(ours.matrix, (0.5 * parts[0] + 0.5 * parts[1] + 3 * parts[2]) / 4) < 1e-8
    assert ours.num_samples == 14
    assert "(list), weighted by `weight_fn`, counted by" in ours.description


def test_the_same_batches_come_each_time_and_the_loader_is_as_before() -> None:
    given = DataLoader(Stream(noise=1.0), batch_size=4, generator=torch.Generator().manual_seed(1))
    stream: Any = given.dataset
    states = [given.generator, stream.generator]
    before = [state.get_state() for state in states]
    first = measured(given, num_samples=9)
    assert stream.position == 0
    assert all(state.get_state().equal(old) for state, old in zip(states, before, strict=True))
    torch.rand(3)
    stream.generator.manual_seed(5)
    second = measured(given, num_samples=9)
    pairs = zip(first.batches, second.batches, strict=True)
    assert all(a.data[0].equal(b.data[0]) for a, b in pairs)
    other = measured(given, num_samples=9, seed=1)
    assert not other.batches[0].data[0].equal(first.batches[0].data[0])


def test_a_weighted_loader_is_believed() -> None:
    sampler = WeightedRandomSampler([0.0] * 20 + [1.0] * 6, 12)
    drawn = numbers(measured(DataLoader(Numbered(), batch_size=4, sampler=sampler)))
    assert len(drawn) == 12
    assert min(drawn) >= 20


def test_batches_are_kept_apart_from_a_buffer_that_the_loader_fills_again() -> None:
    class Refills:
        def __iter__(self) -> Iterator[Any]:
            buffer = torch.zeros(2, 4)
            for number in range(3):
                yield buffer.fill_(number), torch.zeros(2).long()

    assert numbers(measured(Refills())) == [0, 0, 1, 1, 2, 2]


def test_persistent_workers_of_a_given_loader_are_left_alone() -> None:
    given = DataLoader(
        Stream(),
        batch_size=4,
        num_workers=1,
        persistent_workers=True,
        multiprocessing_context="fork",
    )
    running = iter(given)
    first = next(running)[0][:, 0].tolist()
    assert numbers(measured(given, num_samples=8)) == list(range(8))
    assert given._iterator is running
    assert first + next(running)[0][:, 0].tolist() == list(range(8))
    running._shutdown_workers()  # type: ignore[attr-defined]


def test_a_given_collection_is_combined() -> None:
    pair = {"a": DataLoader(Numbered(6), batch_size=3), "b": DataLoader(Stream(4), batch_size=2)}
    probe = hard.DenseHessian(
        dataloader=CombinedLoader(pair, "min_size"), weight_fn=lambda batch: len(batch["a"][1])
    )
    module = SumsParts(hard.seeded(lambda: hard.mlp()).network)
    trainer(probe, max_steps=1).fit(module, [loader()])
    assert [batch.data["a"][0][:, 0].tolist() for batch in probe.batches] == [[0, 1, 2], [3, 4, 5]]
    assert [batch.data["b"][0][:, 0].tolist() for batch in probe.batches] == [[0, 1], [2, 3]]


def test_the_training_loader_given_is_not_iterated_but_indexed() -> None:
    train = DataLoader(Numbered(), batch_size=4, sampler=OddSampler())
    assert sorted(numbers(measured(train, train))) == list(range(26))


def test_the_training_loader_given_is_taken_as_any_other_given_loader() -> None:
    ordered = DataLoader(Numbered(), batch_size=8)
    mine = measured(ordered, ordered, num_samples=10)
    other = measured(DataLoader(Numbered(), batch_size=8), ordered, num_samples=10)
    assert numbers(mine) == numbers(other) == list(range(16))
    assert mine.description == other.description
    # unless it is given without its order
    drawn = measured(ordered, ordered, num_samples=10, batch_size=5)
    assert numbers(drawn) != list(range(10))


class Restless(Dataset[Any]):
    """Draws random numbers for each sample."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> Any:
        return torch.rand(4) + index, index % 3


def test_training_goes_on_as_without_where_its_own_loader_is_given() -> None:
    def trained(given: bool) -> list[Tensor]:
        torch.manual_seed(0)
        module, train = Classifier(), DataLoader(Restless(), batch_size=4)
        loss = Loss(dataloader=train) if given else Loss()
        callback = spectrum(loss=loss, every_n_epochs=1)
        trainer(*([callback] if given else []), max_epochs=2).fit(module, train)
        assert not given or len(callback.reports) == 3
        return [*(p.detach() for p in module.parameters()), torch.rand(3)]

    assert all(map(torch.equal, trained(True), trained(False)))


def test_the_training_loader_given_comes_before_the_hooks() -> None:
    train = DataLoader(Numbered(), batch_size=4, shuffle=True)
    probe = hard.DenseHessian(dataloader=train)
    trainer(probe, max_steps=1).fit(HasHook(), train)
    assert sorted(numbers(probe)) == list(range(26))


class HasHook(Classifier):
    """Measures on batches of its own choice."""

    def hessian_dataloader(self) -> Any:
        self.calls = 1
        return [(torch.full((5, 4), torch.rand(()).item()), torch.zeros(5).long())]


class HookedData(pl.LightningDataModule):
    def train_dataloader(self) -> Any:
        return DataLoader(Stream(), batch_size=4)

    def hessian_dataloader(self) -> Any:
        return DataLoader(Numbered(7), batch_size=4)


def test_the_hook_of_the_module_gives_the_batches() -> None:
    def drawn() -> Tensor:
        module, probe = HasHook(), hard.DenseHessian()
        trainer(probe, max_steps=1).fit(module, DataLoader(Stream(), batch_size=4))
        assert not hasattr(module, "calls")
        assert probe.description.startswith(
            "all 1 batches (5 samples) of the loader of `hessian_dataloader` (list)"
        )
        inputs: Tensor = probe.batches[0].data[0]
        return inputs

    assert drawn().equal(drawn())


def test_the_hook_of_the_data_module_comes_before_that_of_the_module() -> None:
    probe = hard.DenseHessian()
    trainer(probe, max_steps=1).fit(HasHook(), HookedData())
    assert sorted(numbers(probe)) == list(range(7))


def test_the_option_comes_before_the_hooks() -> None:
    probe = hard.DenseHessian(dataloader=DataLoader(Numbered(3)))
    trainer(probe, max_steps=1).fit(HasHook(), HookedData())
    assert sorted(numbers(probe)) == [0, 1, 2]


SHARED = Stream()


class OnceOnly:
    """Hands out the one iterator that it has."""

    def __init__(self) -> None:
        self.iterator = iter(Batches(4, 4))

    def __iter__(self) -> Iterator[Any]:
        return self.iterator


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ((batch for batch in Batches(4)), r"\(generator\) must be .* its iterator is always the"),
        (iter([1]), "always the same: its batches would be used up. Give the loader itself"),
        (OnceOnly(), "always the same: its batches would be used up"),
        ({"x": [1]}, r"\(dict\) must be an iterable of batches, or a collection of `DataLoader`s"),
        (3, r"\(int\) must be an iterable of batches"),
        ([], r"\(list\) is empty, so there is no loss"),
        (DataLoader(SHARED, batch_size=4), "must not draw from the stream that training draws"),
        ([{"x": "text"}], r"in a batch of the loader given by `dataloader` \(list\) is unknown"),
    ],
    ids=[
        "generator",
        "iterator",
        "once",
        "dict",
        "number",
        "empty",
        "training's stream",
        "no tensors",
    ],
)
def test_what_gives_no_fixed_batches_is_refused(given: Any, reason: str) -> None:
    with pytest.raises(RefusedError, match=reason):
        measured(given, DataLoader(SHARED, batch_size=4))


def test_a_batch_size_cannot_be_had_of_batches_that_are_made_already() -> None:
    with pytest.raises(RefusedError, match=r"must be None for the loader given.*itself, got 3"):
        measured(list(Batches(4)), batch_size=3)
    with pytest.raises(RefusedError, match=r"must be None for the training stream.*itself, got 3"):
        measured(train=DataLoader(Stream(), batch_size=4), batch_size=3)


def test_loaders_in_sequence_are_taken_in_sequence() -> None:
    given = CombinedLoader([DataLoader(Numbered(3), 2), DataLoader(Numbered(2), 2)], "sequential")
    assert numbers(measured(given, weight_fn=lambda b: len(b[1]))) == [0, 1, 2, 0, 1]


def test_weights_are_made_by_a_function() -> None:
    with pytest.raises(ValueError, match=r"`weight_fn` must be a function .* got 3"):
        hard.DenseHessian(weight_fn=3)
