"""Which samples a fit trains on, found without touching its loader."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import pytest
import torch
from lightning.fabric.utilities.distributed import DistributedSamplerWrapper
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    random_split,
)

from lightning_hessian.data import draws_uniformly
from lightning_hessian.data.training_data import is_indexable, training_data
from lightning_hessian.errors import RefusedError
from tests.helpers import hard_modules as hard
from tests.helpers.fitting import Classifier, classification_data, trainer
from tests.helpers.spectrum import spectrum


class Numbered(Dataset[Any]):
    """Sample ``i`` carries its own number as first feature."""

    def __init__(self, count: int = 26) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        features = torch.tensor([float(index), 1.0, -1.0, 0.5])
        return features, torch.tensor(int(index) % 3)


def frozen(loader: Any, *, fit: dict[str, Any] | None = None, **options: Any) -> list[list[int]]:
    """The numbers of the samples in each frozen batch."""
    probe = hard.DenseHessian(**options)
    trainer(probe, **({"max_steps": 1} | (fit or {}))).fit(Classifier(), loader)
    assert [len(batch.data[0]) for batch in probe.batches] == [b.weight for b in probe.batches]
    return [batch.data[0][:, 0].long().tolist() for batch in probe.batches]


def numbers(loader: Any, **options: Any) -> list[int]:
    return sorted(chain(*frozen(loader, **options)))


@pytest.mark.parametrize(
    ("derivatives", "batch_size", "sizes"),
    [
        ("none", 5, [5, 5, 5, 5, 5, 1]),
        # no groups are needed of the whole set, so that four batches of it are enough
        ("required", 5, [7, 7, 7, 5]),
        ("required", 7, [7, 7, 7, 5]),
        ("required", 13, [13, 13]),
    ],
)
def test_all_samples_are_drawn_once_in_batches_of_the_loaders_size_or_in_few(
    derivatives: Any, batch_size: int, sizes: list[int]
) -> None:
    loader = DataLoader(Numbered(), batch_size=batch_size, shuffle=True)
    batches = frozen(loader, mode="eval", derivatives=derivatives)
    assert [len(batch) for batch in batches] == sizes
    assert sorted(chain(*batches)) == list(range(26))


def test_few_batches_are_still_no_larger_than_eight_of_the_training() -> None:
    loader = DataLoader(Numbered(80), batch_size=2, shuffle=True)
    batches = frozen(loader, mode="eval", derivatives="required")
    assert [len(batch) for batch in batches] == [16] * 5


def test_a_part_is_measured_in_a_dozen_groups_that_tell_how_hessians_scatter() -> None:
    loader = DataLoader(Numbered(), batch_size=5, shuffle=True)
    batches = frozen(loader, mode="eval", derivatives="required", num_samples=24)
    assert [len(batch) for batch in batches] == [2] * 12
    assert len(set(chain(*batches))) == 24


def test_the_choice_depends_on_the_seed_only() -> None:
    loader = DataLoader(Numbered(), batch_size=5, shuffle=True)
    torch.manual_seed(1)
    first = list(chain(*frozen(loader, num_samples=7)))
    torch.manual_seed(2)
    assert list(chain(*frozen(loader, num_samples=7, batch_size=3))) == first
    assert list(chain(*frozen(DataLoader(Numbered(), batch_size=2), num_samples=7))) == first
    assert list(chain(*frozen(loader, num_samples=7, seed=1))) != first
    assert len(set(first)) == 7


def test_more_samples_than_there_are_mean_all() -> None:
    assert numbers(DataLoader(Numbered(9), batch_size=5), num_samples=2048) == list(range(9))


def test_a_split_is_indexed_through_itself() -> None:
    part, _ = random_split(Numbered(), [9, 17], generator=torch.Generator().manual_seed(0))
    assert numbers(DataLoader(part, batch_size=5, shuffle=True)) == sorted(part.indices)


def test_a_subset_samplers_indices_are_all_there_is() -> None:
    sampler = SubsetRandomSampler([3, 1, 4, 15, 9, 2, 6])
    loader = DataLoader(Numbered(), batch_size=5, sampler=sampler)
    assert numbers(loader) == [1, 2, 3, 4, 6, 9, 15]
    tensor = SubsetRandomSampler(torch.tensor([3, 1, 4]))  # type: ignore[arg-type]
    assert numbers(DataLoader(Numbered(), batch_size=2, sampler=tensor)) == [1, 3, 4]


class OddSampler(Sampler[int]):
    """Has a method of the name that a subset sampler gives its indices."""

    def indices(self) -> list[int]:
        return [1, 3, 5, 7]

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices())

    def __len__(self) -> int:
        return 4


def test_samplers_of_unknown_kind_are_taken_to_draw_from_everything() -> None:
    assert numbers(DataLoader(Numbered(), batch_size=2, sampler=OddSampler())) == list(range(26))
    weighted = WeightedRandomSampler([1.0] * 26, 26)
    assert numbers(DataLoader(Numbered(), batch_size=2, sampler=weighted)) == list(range(26))


@pytest.mark.sampled
@pytest.mark.filterwarnings("ignore:You requested to overfit.*")
@pytest.mark.parametrize(
    ("limits", "shuffle", "count"),
    [
        ({"limit_train_batches": 3}, False, 12),
        ({"limit_train_batches": 0.5}, False, 12),  # of 7 batches, rounded down to 3
        ({"limit_train_batches": 3}, True, 26),
        ({"overfit_batches": 2}, False, 8),
        ({"overfit_batches": 2}, True, 8),
        ({}, False, 26),
    ],
)
def test_only_samples_that_training_reaches_count(
    limits: dict[str, Any], shuffle: bool, count: int
) -> None:
    loader = DataLoader(Numbered(), batch_size=4, shuffle=shuffle)
    assert numbers(loader, fit={"max_epochs": 1, **limits}) == list(range(count))
    # however the frozen batches are cut
    assert numbers(loader, fit={"max_epochs": 1, **limits}, batch_size=5) == list(range(count))


def test_the_last_samples_dropped_by_a_sequential_loader_are_never_reached() -> None:
    assert numbers(DataLoader(Numbered(), batch_size=4, drop_last=True)) == list(range(24))
    shuffled = DataLoader(Numbered(), batch_size=4, drop_last=True, shuffle=True)
    assert numbers(shuffled) == list(range(26))


class Pairs(Sampler[list[int]]):
    """Batches without a batch size."""

    def __iter__(self) -> Iterator[list[int]]:
        return iter([[2 * i, 2 * i + 1] for i in range(13)])

    def __len__(self) -> int:
        return 13


def test_a_custom_batch_sampler_needs_a_batch_size() -> None:
    with pytest.raises(RefusedError, match=r"its Pairs has no integer `batch_size`. Give `batch_s"):
        frozen(DataLoader(Numbered(), batch_sampler=Pairs()))
    given = frozen(DataLoader(Numbered(), batch_sampler=Pairs()), batch_size=20)
    assert [len(batch) for batch in given] == [20, 6]


def test_a_batch_sampler_that_tells_its_size_is_believed() -> None:
    sampler = BatchSampler(RandomSampler(range(26)), batch_size=10, drop_last=False)
    assert len(frozen(DataLoader(Numbered(), batch_sampler=sampler), mode="train")[0]) == 10


class CountingSampler(SequentialSampler):
    """Counts how often a loader begins to iterate."""

    begun = 0

    def __iter__(self) -> Iterator[int]:
        self.begun += 1
        return super().__iter__()


def test_the_loader_and_its_sampler_are_never_iterated(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = []
    iterate = DataLoader._get_iterator

    def counted(self: DataLoader[Any]) -> Any:
        begun.append(self)
        return iterate(self)

    monkeypatch.setattr(DataLoader, "_get_iterator", counted)
    sampler = CountingSampler(Numbered())
    loader = DataLoader(Numbered(), batch_size=5, sampler=sampler)
    probe = hard.DenseHessian()
    trainer(probe, max_epochs=2).fit(Classifier(), loader)
    assert (begun, sampler.begun) == ([loader, loader], 2)
    assert len(probe.batches) == 4


def test_the_hook_that_gives_training_its_loader_is_not_asked_again() -> None:
    class Splits(Classifier):
        asked = 0

        def train_dataloader(self) -> Any:
            # another split each time, as of a hook that draws it
            Splits.asked += 1
            return DataLoader(Numbered(6 + Splits.asked), batch_size=5)

    probe = hard.DenseHessian()
    trainer(probe, max_epochs=2).fit(Splits())
    assert Splits.asked == 1
    assert probe.num_samples == 7


class IteratesItself(DataLoader[Any]):
    """May do anything to a batch."""

    def __iter__(self) -> Any:
        return super().__iter__()


def test_only_batches_that_are_collated_samples_are_indexed() -> None:
    assert is_indexable(DataLoader(Numbered()))
    assert not is_indexable(DataLoader(Numbered(), batch_size=None))
    assert not is_indexable(IteratesItself(Numbered()))
    assert not is_indexable([Numbered()[0]])


class Lists(Numbered):
    """Asked for lists of positions, as a data set is by a sampler of batches."""

    def __getitem__(self, index: Any) -> Any:
        assert isinstance(index, list)
        samples = [super(Lists, self).__getitem__(i) for i in index]
        return [torch.stack(column) for column in zip(*samples, strict=True)]


@pytest.mark.parametrize("options", [{}, {"num_samples": 12}])
def test_a_data_set_that_is_asked_for_lists_is_one_of_samples(options: dict[str, Any]) -> None:
    by_lists = DataLoader(
        Lists(), sampler=BatchSampler(RandomSampler(Lists()), 8, False), batch_size=None
    )
    by_samples = DataLoader(Numbered(), batch_size=8, shuffle=True)
    assert is_indexable(by_lists)
    assert frozen(by_lists, **options) == frozen(by_samples, **options)


def test_it_is_measured_from_the_start_each_row_once() -> None:
    data = Lists()
    loader = DataLoader(data, sampler=BatchSampler(RandomSampler(data), 8, False), batch_size=None)
    callback = spectrum()
    trainer(callback, max_epochs=2).fit(Classifier(), loader)
    assert [report.global_step for report in callback.reports] == [0, 4, 8]
    assert callback.reports[0].data == "all 26 samples of the training set (Lists)"


def positions(loader: DataLoader[Any], **options: Any) -> list[int]:
    return list(training_data(loader, name="the set", **options).indices)


def distributed(sampler: Any, rank: int = 1, **options: Any) -> DataLoader[Any]:
    """As Lightning leaves a loader for one of three processes."""
    options = {"num_replicas": 3, "rank": rank, "seed": 0} | options
    if isinstance(sampler, Dataset):
        own: Any = DistributedSampler(sampler, **options)
    else:
        own = DistributedSamplerWrapper(sampler, **options)
    return DataLoader(Numbered(), batch_size=4, sampler=own)


def test_a_distributed_sampler_stands_for_the_whole_set_on_every_rank() -> None:
    for rank in range(3):
        assert positions(distributed(Numbered(), rank, shuffle=True)) == list(range(26))
        limited = distributed(Numbered(), rank, shuffle=True)
        assert positions(limited, max_batches=1) == list(range(26))


def test_under_a_limit_distributed_ranks_in_order_reach_the_first_samples_together() -> None:
    loaders = [distributed(Numbered(), rank, shuffle=False) for rank in range(3)]
    # what the three samplers really give in their first two batches
    reached = sorted(i for loader in loaders for i in list(loader.sampler)[: 2 * 4])
    assert all(positions(loader, max_batches=2) == reached for loader in loaders)
    assert all(positions(loader, max_batches=9) == list(range(26)) for loader in loaders)


def test_a_wrapped_sampler_counts_as_the_one_of_a_single_process() -> None:
    subset = SubsetRandomSampler([3, 1, 4, 15, 9, 2, 6])
    single = positions(DataLoader(Numbered(), batch_size=4, sampler=subset))
    assert single == [3, 1, 4, 15, 9, 2, 6]
    for rank in range(3):
        assert positions(distributed(subset, rank, shuffle=True)) == single
        assert positions(distributed(OddSampler(), rank, shuffle=False)) == list(range(26))


@pytest.mark.parametrize("sampler", [OddSampler(), WeightedRandomSampler([1.0] * 26, 26)])
def test_uniform_samplers_are_told_from_others(sampler: Sampler[int]) -> None:
    assert not draws_uniformly(DataLoader(Numbered(), batch_size=2, sampler=sampler))
    assert not draws_uniformly(DataLoader(Numbered(), batch_sampler=Pairs()))
    assert draws_uniformly(DataLoader(Numbered(), batch_size=2, shuffle=True))
    assert draws_uniformly(DataLoader(Numbered(), batch_size=2))
    assert draws_uniformly(distributed(Numbered()))
    assert not draws_uniformly(distributed(sampler))


@pytest.mark.parametrize("distribute", [False, True])
def test_the_description_says_where_training_may_not_take_each_sample_alike(
    distribute: bool,
) -> None:
    def described(sampler: Any) -> str:
        plain = DataLoader(Numbered(), batch_size=4, sampler=sampler)
        of_a_process = distributed(sampler, shuffle=False)
        return training_data(of_a_process if distribute else plain, name="the set").description

    weighted = WeightedRandomSampler([1.0] * 26, 26)
    wanted = (
        "the set (Numbered, each alike, whatever its WeightedRandomSampler prefers; "
        "`sampling='as_drawn'` follows it)"
    )
    assert described(weighted) == wanted
    assert described(SubsetRandomSampler([3, 1])) == "the set (Numbered)"


def test_the_mean_over_samples_does_not_depend_on_the_batches() -> None:
    wanted = hard.hessian_by_differences(Classifier(hard.seeded(lambda: hard.mlp()).network))
    for size in (1, 5, 25, 26):
        module = hard.seeded(lambda: hard.mlp())
        measured = hard.measure(module, classification_data(), batch_size=size, precision=64)
        assert hard.off_by(measured.matrix, wanted) < 1e-8


def test_a_second_fit_on_other_data_measures_the_other_data() -> None:
    probe = hard.DenseHessian()
    first, second = classification_data(26), TensorDataset(torch.ones(4, 4), torch.zeros(4).long())
    module = hard.seeded(lambda: hard.mlp(), lr=0.0)
    trainer(probe, max_steps=1).fit(module, DataLoader(first, batch_size=26))
    before = probe.matrix
    trainer(probe, max_steps=1).fit(module, DataLoader(second, batch_size=26))
    wanted = hard.hessian_by_differences(hard.seeded(lambda: hard.mlp()), [second.tensors])
    assert hard.off_by(probe.matrix, wanted) < 3e-5
    assert hard.off_by(before, wanted) > 0.1
