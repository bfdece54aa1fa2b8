"""``sampling="as_drawn"``: samples count as often as the training's sampler draws them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    Sampler,
    TensorDataset,
    WeightedRandomSampler,
)

from lightning_hessian import HessianSpectrum, Loss, LossDifference
from lightning_hessian.data import Loaders
from lightning_hessian.data.plan import drawn
from lightning_hessian.data.training_data import training_data
from lightning_hessian.errors import RefusedError
from lightning_hessian.fit import frozen_sample
from lightning_hessian.studies import sampling_error
from tests.helpers import hard_modules as hard
from tests.helpers.dense_samples import DenseSamples
from tests.helpers.fitting import Classifier, trainer
from tests.helpers.spectrum import spectrum
from tests.objective.test_given_data import measured
from tests.objective.test_training_data import Numbered, OddSampler, Pairs

COUNT = 90
"""Samples, of which every third has a larger weight."""


def rows() -> TensorDataset:
    """Inputs whose scale depends on their weight, so that it matters how often each is drawn."""
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(COUNT, 3, generator=generator, dtype=torch.float64)
    inputs[::3] *= 3
    return TensorDataset(inputs, torch.randn(COUNT, generator=generator, dtype=torch.float64))


def weights() -> Tensor:
    """Two of them, and none at all for two samples."""
    found = torch.full((COUNT,), 1.0, dtype=torch.float64)
    found[::3] = 5.0
    found[[4, 6]] = 0.0
    return found


def balanced(batch_size: int = 16, count: int = COUNT, **options: Any) -> DataLoader[Any]:
    sampler = WeightedRandomSampler(weights(), count, **options)  # type: ignore[arg-type]
    return DataLoader(rows(), batch_size=batch_size, sampler=sampler)


def gram(shares: Tensor) -> Tensor:
    """The Hessian of weighted least squares, ``2 X^T W X / tr W``."""
    inputs = rows().tensors[0]
    return 2 * inputs.T @ (shares[:, None] * inputs) / shares.sum()


class LeastSquares(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Linear(3, 1, bias=False).double()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        inputs, targets = batch
        return (self.network(inputs)[:, 0] - targets).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


def probed(
    loader: Any, module: pl.LightningModule | None = None, **options: Any
) -> hard.DenseHessian:
    probe = hard.DenseHessian(**({"sampling": "as_drawn"} | options))
    trainer(probe, max_steps=1).fit(module or LeastSquares(), loader)
    return probe


def planned(loader: Any, **options: Any) -> list[list[int]]:
    """Positions of the samples in each batch, of one loader."""
    max_batches = options.pop("max_batches", math.inf)
    loaders = replace(Loaders.of(loader, name="the set"), max_batches=max_batches)
    wanted: dict[str, Any] = {"num_samples": "all", "batch_size": None, "as_drawn": True}
    plan = loaders.plan(seed=0, **(wanted | options))
    return [list(group or ()) for batch in plan.batches for group in batch.groups[:1]]


def positions(loader: Any, **options: Any) -> list[int]:
    return sorted(chain(*planned(loader, **options)))


@pytest.mark.sampled
@pytest.mark.parametrize("options", [{}, {"batch_size": 7}, {"batch_size": 1}, {"mode": "train"}])
def test_all_samples_of_weighted_least_squares_have_the_weighted_gram_matrix(
    options: dict[str, Any],
) -> None:
    probe = probed(balanced(), **options)
    assert hard.off_by(probe.matrix, gram(weights())) < 1e-13
    assert probe.num_samples == COUNT - 2
    assert probe.description == (
        "all 88 samples of the training set (TensorDataset, as its WeightedRandomSampler draws), "
        "by their weights"
    )
    # as until now, each sample alike
    alike = probed(balanced(), sampling="uniform")
    assert hard.off_by(alike.matrix, gram(torch.ones(COUNT))) < 1e-13


def test_the_seed_draws_as_the_weights_say_and_leaves_the_samplers_generator_alone() -> None:
    loader = balanced(generator=torch.Generator().manual_seed(3))
    sampler: Any = loader.sampler
    before = sampler.generator.get_state()
    data = training_data(loader, name="the set", as_drawn=True)
    found = drawn(data, 20_000, seed=1)
    assert drawn(data, 500, seed=1) == found[:500]
    assert drawn(data, 500, seed=2) != found[:500]
    shares = weights() / weights().sum()
    counts = torch.bincount(torch.tensor(found), minlength=COUNT)
    # binomial, each within five standard deviations
    away = (counts - 20_000 * shares).abs()
    assert (away <= 5 * (20_000 * shares * (1 - shares)).sqrt()).all()
    assert sampler.generator.get_state().equal(before)


def test_a_part_is_drawn_with_replacement_and_says_so() -> None:
    probe = probed(balanced(), num_samples=40)
    assert probe.num_samples == 40
    inputs = torch.cat([batch.data[0] for batch in probe.batches])
    assert len(inputs.unique(dim=0)) < 40
    assert hard.off_by(probe.matrix, 2 * inputs.T @ inputs / 40) < 1e-13
    assert probe.description.startswith("40 draws, with replacement, of the 88 samples of the tra")
    plan = Loaders.of(balanced(), name="the set").plan(
        num_samples=40, batch_size=None, seed=0, as_drawn=True
    )
    # draws never exhaust the samples
    assert (plan.population, plan.most) == (None, 88)


def test_where_each_has_a_weight_of_its_own_samples_are_drawn() -> None:
    few, many = (
        DataLoader(Numbered(n), batch_size=4, sampler=WeightedRandomSampler(range(1, n + 1), n))
        for n in (64, 65)
    )
    assert planned(few, weighs=True) == [[index] for index in reversed(range(64))]
    drawn_of_many = planned(many, weighs=True)
    assert len(set(chain(*drawn_of_many))) < 65
    assert drawn_of_many == planned(many)


def test_drawn_without_replacement_all_count_alike_or_as_in_an_epoch() -> None:
    preferred = [1.0] * 6 + [50.0] * 20
    whole = WeightedRandomSampler(preferred, 26, replacement=False)
    assert positions(DataLoader(Numbered(), batch_size=4, sampler=whole)) == list(range(26))
    part = WeightedRandomSampler(preferred, 8, replacement=False)
    some = positions(DataLoader(Numbered(), batch_size=4, sampler=part))
    assert len(set(some)) == 8
    # and of equal weights there is a finite set to draw from
    equal = WeightedRandomSampler([0.0, 0.0] + [0.1] * 24, 99)
    plan = Loaders.of(DataLoader(Numbered(), sampler=equal), name="the set").plan(
        num_samples=10, batch_size=None, seed=0, as_drawn=True
    )
    assert (len(plan.batches), plan.population) == (10, 24)


class ClassWeighted(Classifier):
    """Divides by the weights of the classes that a batch holds."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        inputs, targets = batch
        return F.cross_entropy(self.network(inputs), targets, weight=torch.tensor([1.0, 5.0]))


class Noisy(LeastSquares):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return super().training_step([batch[0] + torch.randn_like(batch[0]), batch[1]], batch_idx)


def test_what_depends_on_the_batch_is_measured_on_draws_in_mixed_batches() -> None:
    # in batches of one class each its weight would drop out, and so would its share of the loss
    inputs = rows().tensors[0].float()
    targets = (torch.arange(COUNT) % 3 == 0).long()
    loader = balanced()
    loader = DataLoader(TensorDataset(inputs, targets), batch_size=16, sampler=loader.sampler)
    probe = probed(loader, ClassWeighted(nn.Linear(3, 2)))
    assert [note.code for note in probe.notes] == ["weighted-mean"]
    assert probe.description.startswith("88 draws, with replacement")
    assert all(0 < float(batch.data[1].float().mean()) < 1 for batch in probe.batches)
    noisy = probed(balanced(), Noisy())
    assert [note.code for note in noisy.notes] == ["noisy-step"]
    assert noisy.description.startswith("88 draws, with replacement")
    assert probed(balanced(), weight_fn=lambda batch: 1.0).description.startswith("88 draws")


def test_of_another_sampler_an_epoch_is_drawn() -> None:
    loader = DataLoader(Numbered(), batch_size=2, sampler=OddSampler())
    assert positions(loader) == [1, 3, 5, 7]
    assert len(positions(loader, num_samples=3)) == 3
    assert positions(loader, max_batches=1) == [1, 3]
    probe = probed(loader, Classifier(), num_samples=3)
    assert set(probe.batches[0].data[0][:, 0].tolist()) < {1, 3, 5, 7}
    assert probe.description == (
        "3 of 4 samples of an epoch of the training set (Numbered, as its OddSampler draws)"
    )


def test_an_epoch_of_another_sampler_is_a_part_of_all_that_it_draws() -> None:
    drawn = WeightedRandomSampler([1.0] * 10 + [9.0] * 78, 88, replacement=True)
    # not known by its weights: another epoch has other samples
    loader = DataLoader(rows(), batch_size=8, sampler=Unknown(drawn))
    plan = Loaders.of(loader, name="the set").plan(
        num_samples="all", batch_size=None, seed=0, as_drawn=True
    )
    assert (plan.population, plan.most) == (None, 88)
    callback = spectrum(loss=Loss(sampling="as_drawn"), num_samples="all", every_n_epochs=None)
    trainer(callback, max_steps=1).fit(LeastSquares(), loader)
    (first, *_) = callback.reports
    assert first.num_samples == 88
    assert first.sampling is not None
    assert first.sampling.population is None
    assert first.sampling.trace_error > 0


class Unknown(Sampler[int]):
    """Draws as another sampler does, and does not say by which weights."""

    def __init__(self, sampler: Sampler[int]) -> None:
        self.sampler = sampler

    def __iter__(self) -> Any:
        return iter(self.sampler)

    def __len__(self) -> int:
        return len(self.sampler)  # type: ignore[arg-type]


class Twos(Pairs):
    """Tells how large its batches are."""

    batch_size = 2


def test_a_sampler_of_batches_keeps_who_shares_one() -> None:
    loader = DataLoader(Numbered(), batch_sampler=Pairs())
    batches = planned(loader, num_samples=9)
    assert len(batches) == 5
    assert all(second == first + 1 and first % 2 == 0 for first, second in batches)
    assert positions(loader) == list(range(26))
    # the same samples, however they are cut
    cut = planned(loader, num_samples=9, batch_size=4)
    assert [len(batch) for batch in cut] == [4, 4, 2]
    assert sorted(chain(*cut)) == sorted(chain(*batches))
    # and in a fit, where a mean over samples is else measured in other batches
    told = DataLoader(Numbered(), batch_sampler=Twos())
    probe = probed(told, Classifier(hard.seeded(lambda: hard.mlp()).network), num_samples=9)
    assert [batch.data[0][:, 0].tolist() for batch in probe.batches] == batches


class Restless(Sampler[int]):
    """Draws from three generators and remembers what it drew."""

    def __init__(self) -> None:
        self.generator, self.drawn = torch.Generator().manual_seed(4), list[int]()

    def __iter__(self) -> Iterator[int]:
        for _ in range(12):
            place = torch.rand((), generator=self.generator) + torch.rand(())
            self.drawn.append(int(13 * place))
            yield self.drawn[-1]

    def __len__(self) -> int:
        return 12


def test_a_sampler_that_is_iterated_is_left_as_it_was() -> None:
    def trained(*callbacks: pl.Callback) -> tuple[list[int], list[Tensor]]:
        torch.manual_seed(0)
        module, sampler = Classifier(hard.seeded(lambda: hard.mlp()).network), Restless()
        fit = trainer(*callbacks, max_epochs=2, limit_train_batches=2)
        fit.fit(module, DataLoader(Numbered(), batch_size=4, sampler=sampler))
        return sampler.drawn, [p.detach() for p in module.parameters()]

    callback = spectrum(loss=Loss(sampling="as_drawn"))
    plain, measured_too = trained(), trained(callback)
    assert plain[0] == measured_too[0]
    assert all(a.equal(b) for a, b in zip(plain[1], measured_too[1], strict=True))
    assert "8 samples of an epoch" in callback.reports[0].data


class Endless(OddSampler):
    __len__ = None  # type: ignore[assignment]


def test_a_sampler_without_a_length_is_refused() -> None:
    with pytest.raises(RefusedError, match=r"how long an epoch is, but the Endless has no length"):
        probed(DataLoader(Numbered(), batch_size=2, sampler=Endless()), Classifier(), num_samples=3)


def test_of_a_given_loader_weights_are_read_and_samplers_believed() -> None:
    preferred = WeightedRandomSampler([0.0] * 20 + [1.0] * 5 + [2.0], 12)
    given = DataLoader(Numbered(), batch_size=4, sampler=preferred)
    probe = measured(given, sampling="as_drawn")
    assert probe.description.startswith("6 draws, with replacement, of the 6 samples of the loader")
    odd = DataLoader(Numbered(), batch_size=4, sampler=OddSampler())
    assert measured(odd, sampling="as_drawn").batches[0].data[0][:, 0].tolist() == [1, 3, 5, 7]


def test_steps_over_several_loaders_are_drawn_each_by_its_sampler() -> None:
    preferred = WeightedRandomSampler([0.0] * 20 + [1.0] * 6, 12)
    structure = [
        DataLoader(Numbered(), batch_size=4, sampler=preferred),
        DataLoader(Numbered(), batch_size=2, sampler=OddSampler()),
        DataLoader(Numbered(), batch_sampler=Pairs()),
    ]
    plan = Loaders.of(structure, name="the set").plan(
        num_samples="all", batch_size=None, seed=0, as_drawn=True
    )
    weighted, odd, pairs = zip(*(batch.groups for batch in plan.batches), strict=True)
    assert min(chain(*weighted)) >= 20
    assert set(odd) == {(1, 3), (5, 7)}
    assert sorted(pairs) == [(2 * i, 2 * i + 1) for i in range(13)]
    assert plan.population is None


def test_a_data_set_asked_for_lists_is_weighted_alike() -> None:
    class Lists(TensorDataset):
        def __getitem__(self, index: Any) -> Any:
            return super().__getitem__(torch.tensor(index))

    sampler = BatchSampler(balanced().sampler, 16, drop_last=False)
    lists = DataLoader(Lists(*rows().tensors), sampler=sampler, batch_size=None)
    assert hard.off_by(probed(lists).matrix, gram(weights())) < 1e-13


def test_uniform_samplers_are_drawn_as_ever() -> None:
    loader = DataLoader(Numbered(), batch_size=4, sampler=RandomSampler(range(26)))
    assert planned(loader) == planned(loader, as_drawn=False)


def test_the_sample_grows_until_all_samples_have_their_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(frozen_sample, "USUAL", 24)
    callback = HessianSpectrum(
        num_samples="auto", loss=Loss(sampling="as_drawn"), max_overhead=None, on_error="raise"
    )
    trainer(callback, max_steps=1).fit(LeastSquares(), balanced())
    report = callback.reports[0]
    assert any(note.startswith("The sample was made larger: 24, 88") for note in report.notes)
    assert report.sampling is None
    assert float(report.trace.value) == pytest.approx(float(gram(weights()).trace()), rel=1e-9)


@pytest.mark.slow
def test_errors_of_draws_cover_the_weighted_mean() -> None:
    data = training_data(balanced(), name="the set", as_drawn=True)
    truth = torch.linalg.eigvalsh(gram(weights()))
    hessians = 2 * torch.einsum("bi,bj->bij", *[rows().tensors[0]] * 2)
    held, repetitions = dict.fromkeys(("largest", "trace"), 0), 200
    for seed in range(repetitions):
        # more draws than there are samples, of which a finite set would leave nothing open
        found = drawn(data, 120, seed)
        loss: Any = DenseSamples.dealt(hessians, torch.tensor(found), 30)
        values, vectors = torch.linalg.eigh(loss.mean)
        error = sampling_error(loss, vectors.flip(1), num_largest=3, population=None)
        low, high = error.largest_interval
        held["largest"] += low <= float(truth[-1]) <= high
        # Student's t of 30 batches
        held["trace"] += abs(float(values.sum() - truth.sum())) <= 2.05 * error.trace_error
    # of 200 draws 179 to 198 are covered in 99.8 % of cases at exactly 95 %
    assert 179 <= held["trace"] <= 198, held
    assert held["largest"] >= 179, held


def test_losses_of_samples_added_one_by_one_have_no_weights() -> None:
    with pytest.raises(ValueError, match=r"must have `sampling='uniform'`.*got 'as_drawn'. Leave"):
        LossDifference(loss=Loss(sampling="as_drawn"))
    with pytest.raises(ValueError, match=r"`sampling` must be 'uniform' or 'as_drawn', got 'all'"):
        Loss(sampling="all")  # type: ignore[arg-type]
