"""Losses that are one of many, by random numbers or by who shares a batch: errors that hold it."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_hessian import HessianSpectrum, Loss, SpectrumReport
from lightning_hessian.loss import TrainingLoss
from lightning_hessian.studies import QuickSpectrum, quick_spectrum
from tests.helpers.fitting import Classifier, loader, trainer
from tests.helpers.sample_losses import at_start

COUNT = 256


class Variational(pl.LightningModule):
    """``E (m + s e - y)^2 / 2 - log s`` with ``s = exp(r)``: curvatures 2 and 1 at the start."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(()))
        self.log_scale = nn.Parameter(torch.zeros(()))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        drawn = self.mean + self.log_scale.exp() * torch.randn_like(batch[0])
        return (0.5 * (drawn - batch[0]).square()).mean() - self.log_scale

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


def standardised() -> TensorDataset:
    values = torch.randn(COUNT, generator=torch.Generator().manual_seed(0))
    return TensorDataset((values - values.mean()) / values.std())


def first_report(
    module: pl.LightningModule, data: Any, seed: int, **options: Any
) -> SpectrumReport:
    options = {"max_overhead": None, "every_n_epochs": None} | options
    callback = HessianSpectrum(seed=seed, on_error="raise", **options)
    trainer(callback, max_steps=1).fit(module, data)
    return callback.reports[0]


def codes(report: SpectrumReport) -> list[str]:
    return [note.code for note in report.notes]


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("count", "batch_size"),
    [
        (None, 16),
        pytest.param(None, 256, marks=SLOW),
        pytest.param(128, 16, marks=SLOW),
        pytest.param(16, 4, marks=SLOW),
    ],
)
def test_intervals_of_a_noisy_loss_cover_that_of_its_mean(
    count: int | None, batch_size: int
) -> None:
    held, lengths = [], []
    for seed in range(12):
        data = DataLoader(standardised(), batch_size=batch_size)
        report = first_report(Variational(), data, seed, num_samples=count)
        assert "noisy-step" in codes(report)
        assert report.sampling is not None
        assert report.trace is not None
        # of few samples among many the batches tell it all
        assert (report.sampling.num_draws > 0) == (count != 16)
        ends = report.sampling.largest_interval
        held += [ends[0] <= 2 <= ends[1]]
        held += [report.trace.interval[0] <= 3 <= report.trace.interval[1]]
        lengths.append(ends[1] - ends[0])
    # of 24 intervals of 95 % fewer than 20 hold in one case of 200
    assert sum(held) >= 20
    # the curvature by `r` of a draw is 2 e^2 - e y, of variance 9: two times 1.96 * 3 / N^.5
    wanted = 4 * 3 / (count or COUNT) ** 0.5
    assert 0.5 * wanted < sum(lengths) / len(lengths) < 2.5 * wanted


class Scaled(Variational):
    """Samples that differ in curvature by a hundred times the noise that is added to it."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        curvature = batch[0] + 0.1 * torch.randn_like(batch[0])
        return (curvature * (self.mean - 1).square() / 2).mean() + self.log_scale.square()


SCALES = TensorDataset(10 * torch.rand(COUNT, generator=torch.Generator().manual_seed(2)))
WANTED = float(SCALES.tensors[0].mean())
EXPECTED = 0.1 / COUNT**0.5
"""Standard error of the mean curvature over draws, of all samples."""


def test_on_all_samples_the_error_is_that_of_the_draws_alone() -> None:
    report = first_report(Scaled(), DataLoader(SCALES, batch_size=16), 0)
    assert report.sampling is not None
    assert report.sampling.num_draws == 2
    # a chi-square of eight degrees of freedom is within these ends in 999 of 1,000 cases
    assert report.sampling.degrees_of_freedom == 8
    assert 0.3 * EXPECTED < float(report.sampling.eigenvalue_errors[0]) < 1.9 * EXPECTED
    low, high = report.sampling.largest_interval
    assert low <= WANTED <= high
    assert high - low < 10 * EXPECTED
    # the trace is of this eigenvalue and one without noise; the spectra's distance is half of it
    assert report.sampling.trace_error == pytest.approx(
        float(report.sampling.eigenvalue_errors[0]), rel=1e-6
    )
    assert 0 < report.sampling.density_distance < 10 * EXPECTED
    assert report.sampling.density_distance >= abs(float(report.largest.values[0]) - WANTED) / 2
    part = first_report(Scaled(), DataLoader(SCALES, batch_size=16), 0, num_samples=128)
    assert part.sampling is not None
    assert float(part.sampling.eigenvalue_errors[0]) > 10 * EXPECTED


@pytest.mark.parametrize("looks", [True, False])
def test_few_products_look_at_other_draws_or_count_samples_as_a_part(looks: bool) -> None:
    def compute(loss: TrainingLoss) -> QuickSpectrum:
        return quick_spectrum(
            loss,
            num_products=6,
            generator=torch.Generator().manual_seed(0),
            population=loss.sample.population,
            looks_at_draws=looks,
        )

    found = at_start(Scaled(), compute, SCALES, batch_size=16, derivatives="required")
    assert found.sampling is not None
    error = float(found.sampling.eigenvalue_errors[0])
    low, high = found.sampling.largest_interval
    assert low <= WANTED <= high
    if looks:
        assert 0.3 * EXPECTED < error < 1.9 * EXPECTED
        # two vectors under two draws of half of the samples, each with a graph of its own
        assert (found.sampling.num_draws, found.num_hvps) == (2, 2 + 3)
        assert found.sampling.trace_error == pytest.approx(error, rel=0.01)
    else:
        assert error > 10 * EXPECTED
        assert (found.sampling.num_draws, found.num_hvps) == (0, 2)
        assert found.sampling.population is None


class Mixup(Variational):
    """Each sample is mixed with another of its batch."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        values = 0.7 * batch[0] + 0.3 * batch[0][torch.randperm(len(batch[0]))]
        return (0.5 * (self.mean - values).square()).mean() + self.log_scale.square()


@pytest.mark.parametrize(("kind", "groups"), [(Variational, 11), (Mixup, 1)])
def test_where_noise_leaves_samples_apart_they_are_measured_in_groups_that_tell_errors(
    kind: type[Variational], groups: int
) -> None:
    data = DataLoader(standardised(), batch_size=64)
    callback = HessianSpectrum(num_samples=64, max_overhead=None, every_n_epochs=None)
    trainer(callback, max_steps=1).fit(kind(), data)
    sampling = callback.reports[0].sampling
    assert sampling is not None
    # of 64 samples groups of six; or the one batch that they are in training
    assert sampling.num_batches == groups


def test_one_fixed_draw_has_no_error_of_draws() -> None:
    loss = Loss(noise="fixed")
    reports = [
        first_report(Variational(), DataLoader(standardised(), batch_size=16), 0, loss=loss)
        for _ in range(2)
    ]
    for report in reports:
        assert codes(report) == ["noise-fixed"]
        assert report.sampling is None
    assert reports[0].largest.values.equal(reports[1].largest.values)


def test_a_loss_without_noise_has_no_such_note() -> None:
    assert codes(first_report(Classifier(), loader(), 0)) == []


class Weighted(Classifier):
    """Classes of unequal weight: torch divides by the sum of the batch's weights."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        weight = torch.tensor([1.0, 5.0, 25.0]).to(batch[0])
        return F.cross_entropy(self.network(batch[0]), batch[1], weight=weight)


class Ignoring(Classifier):
    """Targets that count for nothing, as padding does."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        target = batch[1].where(batch[0][:, 0] > 0, -100)
        return 2.0 + F.cross_entropy(self.network(batch[0]), target) / 3


class Masked(Classifier):
    """A mean under a mask, by hand, beside a penalty of the weights."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        losses = F.cross_entropy(self.network(batch[0]), batch[1], reduction="none")
        mask = (batch[0][:, 0] > 0).to(losses)
        penalty = sum(p.square().sum() for p in self.parameters()) / 7
        return (losses * mask).sum() / mask.sum() + 0.01 * penalty


class Selecting(Classifier):
    """A mean over what a mask selects."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        losses = F.cross_entropy(self.network(batch[0]), batch[1], reduction="none")
        return losses[batch[0][:, 0] > 0].mean()


class Contrastive(Classifier):
    """Each sample against all others of its batch."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        found = F.normalize(self.network(batch[0]), dim=1)
        return F.cross_entropy(4 * found @ found.T, torch.arange(len(found)))


def rare_classes() -> TensorDataset:
    generator = torch.Generator().manual_seed(1)
    return TensorDataset(
        torch.randn(240, 4, generator=generator),
        torch.multinomial(torch.tensor([0.8, 0.15, 0.05]), 240, True, generator=generator),
    )


@pytest.mark.parametrize(
    "kind",
    [Weighted, Masked, pytest.param(Ignoring, marks=SLOW), pytest.param(Selecting, marks=SLOW)],
)
def test_a_weighted_mean_is_that_of_the_whole_set_in_any_batches(kind: type[Classifier]) -> None:
    data, module = rare_classes(), kind()
    whole, *others = (
        first_report(deepcopy(module), DataLoader(data, batch_size=size), seed)
        for size, seed in ((240, 0), (20, 1), (30, 2))
    )
    assert whole.trace is not None
    for report in others:
        assert report.trace is not None
        # few probes may miss the trace's tolerance, which is none of the loss's business
        assert set(codes(report)) - {"trace-not-reached"} == {"weighted-mean"}
        assert report.loss == pytest.approx(whole.loss, rel=1e-5)
        assert report.gradient_norm == pytest.approx(whole.gradient_norm, rel=1e-4)
        assert report.largest.values[0] == pytest.approx(float(whole.largest.values[0]), rel=1e-4)
        # nothing is left open, as all samples are measured
        assert report.sampling is None
        probes = report.trace.standard_error + whole.trace.standard_error
        assert abs(report.trace.value - whole.trace.value) <= 4 * probes + 1e-4


def test_a_loss_that_compares_samples_depends_on_its_batches() -> None:
    report = first_report(Contrastive(), DataLoader(rare_classes(), batch_size=20), 0)
    assert set(codes(report)) - {"trace-not-reached"} == {"depends-on-batches"}
    assert report.sampling is not None


def test_given_batches_that_depend_on_their_composition_are_seen() -> None:
    data = rare_classes()
    given = Loss(dataloader=DataLoader(data, batch_size=20))
    for kind, code in ((Contrastive, "depends-on-batches"), (Weighted, "weighted-mean")):
        report = first_report(kind(), DataLoader(data, batch_size=40), 0, loss=given)
        assert code in codes(report)


def test_statistics_of_the_batch_depend_on_it() -> None:
    class Normalised(Classifier):
        def __init__(self) -> None:
            super().__init__()
            self.network = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))

    data = DataLoader(rare_classes(), batch_size=20)
    assert codes(first_report(Normalised(), data, 0)) == []
    assert "depends-on-batches" in codes(first_report(Normalised(), data, 0, mode="train"))


def test_a_sum_over_the_batch_depends_on_it() -> None:
    class Sum(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return F.cross_entropy(self.network(batch[0]), batch[1], reduction="sum")

    found = set(codes(first_report(Sum(), loader(), 0)))
    assert found - {"trace-not-reached"} == {"depends-on-batches"}


class SetsIn(Classifier):
    """Noise from the first step of training on, as after a warm-up."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        noise = 0.1 * min(self.trainer.global_step, 1) * torch.randn_like(batch[0])
        return super().training_step([batch[0] + noise, batch[1]], batch_idx)


def test_noise_that_sets_in_with_training_is_seen_then() -> None:
    callback = HessianSpectrum(max_overhead=None, on_error="raise")
    trainer(callback, max_epochs=2).fit(SetsIn(), loader())
    found = ["noisy-step" in codes(report) for report in callback.reports]
    assert found == [False, True, True]
    whole, *later = callback.reports
    assert whole.sampling is None
    assert all(report.sampling is not None for report in later)
