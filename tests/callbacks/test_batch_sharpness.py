"""Batch sharpness in fits: of which batches, at which price, and what is no step of training."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    SequentialSampler,
    WeightedRandomSampler,
)

from lightning_hessian import HessianSpectrum, Krylov, Loss, PyHessian, analyze
from lightning_hessian.data import shuffled
from lightning_hessian.options import SpectrumOptions
from lightning_hessian.records import BatchSharpness, SpectrumReport
from lightning_hessian.statistics import mean_of_ratios, ratio_of_means
from lightning_hessian.studies import SpectrumStudy
from tests.helpers.checkpoints import fitted
from tests.helpers.events import Events
from tests.helpers.fitting import Classifier, loader, trainer
from tests.helpers.least_squares import SGD, LeastSquares, Regression
from tests.helpers.recording import differences, run
from tests.helpers.recording import spectrum as often

PROBLEM = LeastSquares.drawn(23, (2.0, 1.0, 0.3), seed=0, noise=0.5)


def sharp(**options: Any) -> HessianSpectrum:
    """Of all samples, by few products."""
    cheap: dict[str, Any] = {
        "batch_sharpness": True,
        "num_eigenvalues": 1,
        "num_smallest": 0,
        "trace": False,
        "density": False,
        "num_samples": "all",
        "max_overhead": None,
        "solver": Krylov(max_hvps=8, rtol=0.5),
        "on_error": "raise",
    }
    return HessianSpectrum(**(cheap | options))


def last(
    module: pl.LightningModule | None = None,
    batches: Any = None,
    *,
    batch_size: int = 5,
    shuffle: bool = True,
    fit: dict[str, Any] | None = None,
    **options: Any,
) -> tuple[pl.LightningModule, SpectrumReport]:
    """The last report of an epoch, and the module as it stands there."""
    module = Regression(PROBLEM) if module is None else module
    if batches is None:
        assert isinstance(module, Regression)
        batches = module.loader(batch_size, shuffle=shuffle)
    callback = sharp(**options)
    trainer(callback, **(fit or {})).fit(module, batches)
    return module, callback.reports[-1]


def by_hand(
    module: pl.LightningModule, batches: Sequence[Sequence[int]], share: float = 0.0
) -> list[float]:
    """Both means and their errors."""
    assert isinstance(module, Regression)
    table = PROBLEM.along_gradients(batches, module.weights)
    return [*mean_of_ratios(*table, share=share), *ratio_of_means(*table, share=share)]


def numbers(found: BatchSharpness | None) -> list[float]:
    """The same of a report."""
    assert found is not None
    both = found.mean_of_ratios, found.ratio_of_means
    return [number for each in both for number in (each.value, each.standard_error)]


def dealt(size: int, count: int = 23) -> list[list[int]]:
    """The whole batches of the frozen samples, as the seed deals them."""
    order = shuffled(range(23), 0)[:count]
    return [order[i : i + size] for i in range(0, len(order) - size + 1, size)]


# thousands of roundings of float64; another batch would show in the first digit
close = partial(pytest.approx, rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("batch_size", [2, 5, 7])
def test_steps_have_the_batch_size_of_training_and_none_is_the_smaller_rest(
    batch_size: int,
) -> None:
    module, report = last(batch_size=batch_size)
    found = report.batch_sharpness
    assert found is not None
    batches = dealt(batch_size)
    assert (found.step_size, found.num_steps) == (batch_size, len(batches))
    assert numbers(found) == close(by_hand(module, batches))


def test_they_are_of_the_frozen_samples_whatever_batches_these_are_measured_in() -> None:
    module, report = last(num_samples=13, batch_size=3, loss=Loss(batch_size=13))
    assert report.num_samples == 13
    assert numbers(report.batch_sharpness) == close(by_hand(module, dealt(3, 13)))


def test_of_batches_that_training_keeps_some_are_drawn_and_all_have_no_error() -> None:
    blocks = [range(i, i + 5) for i in range(0, 20, 5)]
    module, report = last(shuffle=False)
    assert numbers(report.batch_sharpness) == close(by_hand(module, blocks, share=1.0))
    module, report = last(shuffle=False, batch_size=2, num_samples=12)
    pairs = [range(i, i + 2) for i in range(0, 22, 2)]
    chosen = [pairs[i] for i in shuffled(range(11), 0)[:6]]
    assert numbers(report.batch_sharpness) == close(by_hand(module, chosen, share=6 / 11))


def test_of_few_frozen_samples_there_are_four_steps_all_the_same() -> None:
    module, report = last(batch_size=5, num_samples=9)
    assert report.num_samples == 9
    found = report.batch_sharpness
    assert found is not None
    assert (found.num_steps, found.cost) == (4, 3 * 20)
    # about two products over nine samples
    assert (
        report.num_hvps == last(batch_size=5, num_samples=9, batch_sharpness=False)[1].num_hvps + 2
    )
    assert numbers(found) == close(by_hand(module, dealt(5)))


@pytest.mark.parametrize("accumulated", [2, 4])
def test_a_step_takes_all_batches_that_gradients_are_accumulated_over(accumulated: int) -> None:
    # of a mean over samples the same as one batch as large
    module, report = last(batch_size=2, fit={"accumulate_grad_batches": accumulated})
    found = report.batch_sharpness
    assert found is not None
    assert found.step_size == 2 * accumulated
    batches = dealt(2 * accumulated)
    # eleven batches of two make five steps of two, and two of four
    assert found.num_steps == 11 // accumulated
    if accumulated == 4:
        # two steps make up an epoch
        assert numbers(found)[::2] == close(by_hand(module, batches)[::2])
        assert all(map(math.isnan, numbers(found)[1::2]))
        assert "batch-sharpness-without-error" in [note.code for note in report.notes]
    else:
        assert numbers(found) == close(by_hand(module, batches))


def test_where_accumulation_changes_so_do_the_steps() -> None:
    callback = sharp(every_n_epochs=1)
    schedule = pl.callbacks.GradientAccumulationScheduler(scheduling={0: 1, 1: 3})
    module = Regression(PROBLEM)
    trainer(schedule, callback, max_epochs=2).fit(module, module.loader(2, shuffle=True))
    sizes = [r.batch_sharpness.step_size for r in callback.reports if r.batch_sharpness]
    assert (sizes[0], sizes[-1]) == (2, 6)


@pytest.mark.parametrize("batch_size", [23, 40])
def test_a_full_batch_is_its_curvature_along_the_gradient_without_an_error(
    batch_size: int,
) -> None:
    module, report = last(batch_size=batch_size)
    gradient, hessian = PROBLEM.derivatives(range(23), module.weights)  # type: ignore[union-attr, arg-type]
    exact = float(gradient @ hessian @ gradient / (gradient @ gradient))
    assert numbers(report.batch_sharpness) == close([exact, 0.0, exact, 0.0])


def refusal(report: SpectrumReport) -> str:
    """Why there is no batch sharpness; the rest is measured."""
    assert report.failure is None
    assert len(report.largest.values)
    assert report.batch_sharpness is None
    (note,) = (n for n in report.notes if n.code == "batch-sharpness-not-measured")
    return str(note)


@pytest.mark.parametrize(
    ("batch_size", "num_samples", "fit", "words"),
    [
        (
            20,
            "all",
            {},
            "takes two steps of 20 samples each at least, but 23 samples are",
        ),
        (20, 9, {}, "Lower the batch size, or `accumulate_grad_batches`"),
        (
            10,
            "all",
            {"accumulate_grad_batches": 3},
            "an epoch has 2 batches of 10 samples, fewer than the 3 that one step of the optimiser",
        ),
    ],
)
def test_too_few_samples_are_a_note_that_says_how_many(
    batch_size: int, num_samples: Any, fit: dict[str, Any], words: str
) -> None:
    _, report = last(batch_size=batch_size, num_samples=num_samples, fit=fit)
    assert words in refusal(report)


class HasOwnLoss(Regression):
    """Says which loss it means."""

    def hessian_loss(self, batch: Any, batch_idx: int) -> Tensor:
        return self.training_step(batch, batch_idx)


class ByHand(Regression):
    """Optimises by hand."""

    def __init__(self, problem: LeastSquares) -> None:
        super().__init__(problem)
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        optimizer = self.optimizers()
        loss = super().training_step(batch, batch_idx)
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        return loss


class OfTwo(Regression):
    """On batches of two loaders."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return super().training_step(batch["a"], batch_idx) + super().training_step(
            batch["b"], batch_idx
        )


class Rounded(torch.autograd.Function):
    """The identity, whose derivative torch does not differentiate."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor) -> Tensor:
        return inputs.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        return slope.clone()


class Once(Regression):
    """Can be differentiated once."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return Rounded.apply(super().training_step(batch, batch_idx))


OWN = Regression(PROBLEM)


@pytest.mark.parametrize(
    ("module", "batches", "options", "words"),
    [
        (HasOwnLoss, None, {}, "the loss that is measured, `hessian_loss`, is not the one that"),
        (
            HasOwnLoss,
            None,
            {"loss": Loss(which="training_step")},
            "the loss that is measured, `training_step`, is not the one that training steps on",
        ),
        (ByHand, None, {}, "ByHand optimises by hand, and may take any number of batches to a"),
        (
            Regression,
            None,
            {"loss": Loss(dataloader=OWN.loader(5))},
            "not in the batches that training takes. Leave `dataloader` and `hessian_dataloader`",
        ),
        (
            OfTwo,
            lambda: {"a": OWN.loader(5), "b": OWN.loader(4)},
            {},
            "a step takes batches of 2 loaders, which have no one size",
        ),
        (
            Regression,
            lambda: OWN.loader(5, sampler=WeightedRandomSampler(list(range(23)), 23)),
            {},
            "as its WeightedRandomSampler draws them, and the samples are taken alike. Give `Loss(",
        ),
        (Once, None, {}, "needs exact products, but those of this loss are differences of"),
    ],
)
def test_what_is_no_step_of_training_is_a_note_that_says_why(
    module: Callable[[LeastSquares], Regression],
    batches: Callable[[], Any] | None,
    options: dict[str, Any],
    words: str,
) -> None:
    found = batches() if batches else OWN.loader(5, shuffle=True)
    _, report = last(module(PROBLEM), found, **options)
    assert words in refusal(report)


class Stream(IterableDataset[Any]):
    """The samples as batches of some sizes, which it makes itself."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes = sizes

    def __iter__(self) -> Iterator[Any]:
        start = 0
        for size in self.sizes:
            rows = slice(start, start + size)
            yield PROBLEM.inputs[rows], PROBLEM.targets[rows]
            start += size


def stream(*sizes: int) -> DataLoader[Any]:
    return DataLoader(Stream(sizes), batch_size=None)


def test_of_a_stream_the_whole_batches_are_those_that_training_was_seen_to_take() -> None:
    module, report = last(batches=stream(6, 6, 6, 5), num_samples=23)
    blocks = [range(0, 6), range(6, 12), range(12, 18)]
    found = report.batch_sharpness
    assert found is not None
    assert (found.num_steps, found.step_size) == (3, 6)
    assert numbers(found) == close(by_hand(module, blocks))


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ((9, 5, 9), "the batches of training must have one size, got 5 to 9 samples. Give the l"),
        ((5, 5, 13), "the batches of training must have one size, got 5 to 13 samples"),
        ((23,), "takes two steps of 23 samples each at least, but 23 samples are there"),
    ],
)
def test_a_stream_without_steps_of_one_size_is_a_note(sizes: tuple[int, ...], words: str) -> None:
    # told how many samples count, as batches of changing length may not be counted by their rows
    weigh = Loss(weight_fn=lambda batch: len(batch[1]))
    _, report = last(batches=stream(*sizes), num_samples=23, loss=weigh)
    assert words in refusal(report)


class InTurn(BatchSampler):
    """Batches of a sampler's own making."""

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__(SequentialSampler(range(23)), 1, drop_last=False)
        self.sizes = sizes

    def __iter__(self) -> Iterator[list[int]]:
        start = 0
        for size in self.sizes:
            yield list(range(start, start + size))
            start += size

    def __len__(self) -> int:
        return len(self.sizes)


def of_sampler(*sizes: int) -> DataLoader[Any]:
    samples = OWN.loader(1).dataset
    return DataLoader(samples, batch_sampler=InTurn(sizes))


def test_batches_of_a_samplers_own_making_are_taken_as_drawn() -> None:
    as_drawn = Loss(sampling="as_drawn")
    module, report = last(batches=of_sampler(7, 7, 7, 2), loss=as_drawn)
    order = shuffled(range(3), 0)
    blocks = [range(7 * place, 7 * place + 7) for place in order]
    # of another epoch others, as far as is known
    assert numbers(report.batch_sharpness) == close(by_hand(module, blocks))
    _, report = last(batches=of_sampler(7, 9, 7), loss=as_drawn)
    assert "the batches of training must have one size, got 7 to 9 samples" in refusal(report)


def test_of_a_weighted_sampler_steps_are_drawn_by_its_weights() -> None:
    weights = [1.0] * 10 + [0.0] * 13
    sampler = WeightedRandomSampler(weights, 23)
    _, report = last(
        batches=OWN.loader(5, sampler=sampler), loss=Loss(sampling="as_drawn"), num_samples=10
    )
    assert report.batch_sharpness is not None
    assert report.batch_sharpness.num_steps == 2
    # of the ten samples alone: no step's curvature is beyond the largest of theirs
    largest = PROBLEM.inputs[:10].square().sum(dim=1).max()
    assert 0 < report.batch_sharpness.mean_of_ratios.value < float(largest)


@pytest.mark.filterwarnings("ignore:.*this fit will run with no optimizer")
@pytest.mark.parametrize(
    ("optimizer", "options", "lines"),
    [
        (SGD, {}, (200.0, 200.0)),
        (partial(SGD, momentum=0.9), {}, (20.0, 380.0)),
        (partial(SGD, momentum=0.9), {"gradient_clip_val": 1.0}, (20.0, 380.0)),
        (SGD, {"gradient_clip_val": 1.0, "gradient_clip_algorithm": "value"}, "clipped by value"),
        (torch.optim.Adam, {}, "they are known for SGD, got Adam"),
        (lambda _: None, {}, "no optimiser steps the measured parameters"),
    ],
)
def test_the_lines_are_read_off_the_fits_optimiser_and_the_values_need_none(
    optimizer: Any, options: dict[str, Any], lines: Any
) -> None:
    module, report = last(Regression(PROBLEM, optimizer), fit=options)
    found = report.batch_sharpness
    assert found is not None
    assert numbers(found) == close(by_hand(module, dealt(5)))
    if isinstance(lines, str):
        assert found.lines is None
        assert any("lines of batch sharpness are absent" in n and lines in n for n in report.notes)
        return
    assert found.lines is not None
    assert (found.lines.small, found.lines.large) == pytest.approx(lines)
    codes = [note.code for note in report.notes]
    assert ("batch-sharpness-without-clipping" in codes) is bool(options)


def test_a_schedules_rate_is_that_of_the_next_step() -> None:
    class Decays(Regression):
        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=0.01)
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)]

    callback = sharp(every_n_epochs=1)
    module = Decays(PROBLEM)
    trainer(callback, max_epochs=2).fit(module, module.loader(5, shuffle=True))
    found = [report.batch_sharpness for report in callback.reports]
    assert found[0] is not None
    assert found[0].lines is not None
    assert found[0].lines.small == pytest.approx(200)
    assert found[-1] is not None
    assert found[-1].lines is not None
    assert found[-1].lines.small > 300


@pytest.mark.parametrize("options", [{}, {"edge": True}, {"edge": True, "batch_sharpness": False}])
def test_a_rate_of_zero_is_told_where_its_thresholds_are_infinite(options: dict[str, Any]) -> None:
    _, at_rest = last(Regression(PROBLEM, partial(SGD, lr=0.0)), **options)
    (note,) = (note for note in at_rest.notes if note.code == "learning-rate-of-zero")
    assert note.startswith("The learning rate is 0 for the next step, as where a warm-up begins: ")
    assert not note.qualifies
    _, moving = last(Regression(PROBLEM, SGD), **options)
    assert "learning-rate-of-zero" not in [note.code for note in moving.notes]


@pytest.mark.parametrize("solver", [Krylov(max_hvps=8), PyHessian(eigenvalues_maxIter=2)])
def test_it_costs_a_gradient_and_a_product_more_and_says_so(solver: Any) -> None:
    _, with_it = last(solver=solver)
    _, without = last(solver=solver, batch_sharpness=False)
    assert with_it.num_hvps == without.num_hvps + 1
    # a gradient and a product over the 20 of 23 samples that make whole steps
    assert with_it.cost == without.cost + 3 * 20
    assert without.batch_sharpness is None


@pytest.mark.parametrize("products", [2, 4, 8])
def test_a_report_costs_its_allowance_with_batch_sharpness_in_it(products: int) -> None:
    # of a pass with its graph, of so many products, and of a gradient and a product of its own
    allowance = 20 * (1 + 2 * products + 3)
    study = SpectrumStudy(SpectrumOptions(batch_sharpness=True), seed=0)
    problem = LeastSquares.drawn(20, [1.0] * 30, seed=0, noise=0.0)
    weights = torch.zeros(30, dtype=torch.float64)
    with problem.opened([range(i, i + 4) for i in range(0, 20, 4)], weights) as loss:
        report = study.measure(loss, allowance=allowance)
    assert report.batch_sharpness is not None
    assert report.num_hvps == products + 1
    assert report.cost == allowance


@pytest.mark.parametrize(("allowance", "num_steps"), [(1000, 5), (73, 3), (49, 2)])
def test_as_many_steps_are_taken_as_half_of_an_allowance_pays(
    allowance: float, num_steps: int
) -> None:
    study = SpectrumStudy(SpectrumOptions(batch_sharpness=True), seed=0)
    problem = LeastSquares.drawn(20, [1.0] * 30, seed=0, noise=0.0)
    batches, weights = [range(i, i + 4) for i in range(0, 20, 4)], torch.zeros(30).double()
    with problem.opened(batches, weights) as loss:
        report = study.measure(loss, allowance=allowance)
    found = report.batch_sharpness
    assert found is not None
    assert (found.num_steps, found.cost) == (num_steps, 12 * num_steps)
    table = problem.along_gradients(batches[:num_steps], weights)
    assert found.mean_of_ratios.value == close(mean_of_ratios(*table)[0])


def test_two_steps_that_are_too_dear_are_a_note_that_says_so() -> None:
    study = SpectrumStudy(SpectrumOptions(batch_sharpness=True), seed=0)
    problem = LeastSquares.drawn(20, [1.0] * 30, seed=0, noise=0.0)
    batches, weights = [range(i, i + 10) for i in (0, 10)], torch.zeros(30).double()
    with problem.opened(batches, weights) as loss:
        report = study.measure(loss, allowance=110)
    words = "2 steps of 10 samples each cost 60 sample gradients, and may cost 55. Raise `max_over"
    assert words in refusal(report)
    # what it would have cost goes to products
    assert report.cost == 20 * (1 + 2 * report.num_hvps) == 100


@pytest.mark.parametrize("accumulated", [1, 2])
def test_a_fit_stays_within_its_price(accumulated: int) -> None:
    callback = sharp(max_overhead=0.5, solver=Krylov(max_hvps=80))
    module = Regression(PROBLEM)
    fit = {"max_epochs": 100, "accumulate_grad_batches": accumulated}
    trainer(callback, **fit).fit(module, module.loader(2, shuffle=True))
    reports = callback.reports
    assert len(reports) >= 3
    assert all(report.batch_sharpness is not None for report in reports)
    assert reports[-1].overhead <= 0.5


def test_its_price_is_part_of_every_report_that_a_plan_counts_on() -> None:
    plain, with_it = (
        SpectrumStudy(SpectrumOptions(batch_sharpness=flag), seed=0) for flag in (False, True)
    )
    for of in ("least_price", "fair_price", "usual_price"):
        # at most: a gradient, and a product whose graph is made anew
        assert getattr(with_it, of)(100) == getattr(plain, of)(100) + 400
    assert with_it.least_price(100, is_first=True) == plain.least_price(100, is_first=True) + 400
    # of 1,700 sample gradients 400 are gone before products are bought
    assert plain.describe(100, 1_700) == "about 8 products each"
    assert with_it.describe(100, 1_700) == "about 6 products each"


def test_it_must_be_a_flag() -> None:
    with pytest.raises(ValueError, match="`batch_sharpness` must be True or False, got 'yes'"):
        HessianSpectrum(batch_sharpness="yes")  # type: ignore[arg-type]


@pytest.mark.sampled
@pytest.mark.parametrize(
    "setting",
    [
        pytest.param({}, id="plain"),
        pytest.param({"accumulate_grad_batches": 2}, id="accumulated"),
        pytest.param({"precision": "bf16-mixed"}, id="bf16-mixed"),
    ],
)
def test_a_run_that_measures_it_is_bit_identical(setting: dict[str, Any], tmp_path: Path) -> None:
    without = run(tmp_path / "without", **setting)
    callback = often(batch_sharpness=True, num_samples="all", mode="train")
    assert differences(without, run(tmp_path / "with", callback, **setting)) == []
    assert all(report.batch_sharpness is not None for report in callback.reports)


def test_a_run_in_which_it_is_refused_is_bit_identical(tmp_path: Path) -> None:
    # more to a step than an epoch has
    without = run(tmp_path / "without", accumulate_grad_batches=50)
    callback = often(batch_sharpness=True)
    assert differences(without, run(tmp_path / "with", callback, accumulate_grad_batches=50)) == []
    assert all(report.batch_sharpness is None for report in callback.reports)
    assert all(report.failure is None for report in callback.reports)


def test_a_trial_run_has_it_too() -> None:
    module, report = last(fit={"fast_dev_run": 2}, batch_size=7)
    assert numbers(report.batch_sharpness) == close(by_hand(module, dealt(7)))


def test_an_analysis_has_the_values_and_says_whose_lines_they_are(tmp_path: Path) -> None:
    during = sharp(at_checkpoints=True, every_n_epochs=None, num_samples=16)
    fitted(tmp_path, Classifier(), during)
    wanted = {r.ckpt_path: r for r in during.reports if r.ckpt_path}
    after = analyze(
        Classifier(),
        tmp_path,
        callback=sharp(num_samples=16, edge=True),
        dataloaders=loader(),
        trainer=trainer(),
        verbose=False,
    )
    assert wanted
    assert {report.ckpt_path for report in after} == wanted.keys()
    for report in after:
        assert report.batch_sharpness == wanted[report.ckpt_path].batch_sharpness
        # once, of the edge and of the lines
        assert [note.code for note in report.notes].count("optimiser-as-configured") == 1
        assert report.edge is not None
    assert all("optimiser-as-configured" not in n.code for r in during.reports for n in r.notes)


def test_tags_are_logged_and_the_verdict_is_a_text(tmp_path: Path) -> None:
    logger = pl.loggers.TensorBoardLogger(str(tmp_path), name="", version="")
    _, report = last(fit={"logger": logger}, scalars="all")
    events = Events(str(tmp_path))
    found = report.batch_sharpness
    assert found is not None
    mean, ratio = found.mean_of_ratios, found.ratio_of_means
    tags = {
        "/batch_sharpness": mean.value,
        "_errors/batch_sharpness_standard_error": mean.standard_error,
        "/batch_sharpness_ratio_of_means": ratio.value,
        "_errors/batch_sharpness_ratio_of_means_standard_error": ratio.standard_error,
        "/batch_sharpness_small_batch_line": 200.0,
        "/batch_sharpness_large_batch_line": 200.0,
        "_cost/batch_sharpness_num_steps": 4,
        "_cost/batch_sharpness_step_size": 5,
    }
    logged = events.scalars()
    for tag, value in tags.items():
        assert logged[f"hessian{tag}"][-1][1] == pytest.approx(value, rel=1e-6)
    assert "hessian/batch_sharpness_verdict/text_summary" in events.tags["tensors"]
