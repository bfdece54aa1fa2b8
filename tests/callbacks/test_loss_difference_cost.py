"""What loss differences cost: counted as it is, foreseen as it is counted, and within the plan."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_hessian import LossDifference, Perturbations, Surface
from lightning_hessian.errors import RefusedError
from lightning_hessian.fit import Event, FitLength, Pace, Schedule, Steps
from lightning_hessian.fit.plan import budget
from lightning_hessian.loss.training_step import TrainingStep
from lightning_hessian.options import DifferenceOptions
from lightning_hessian.studies import LossDifferenceStudy
from tests.helpers.difference import difference
from tests.helpers.fitting import Classifier, classification_data, loader, trainer


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Samples in each call of the step that a measurement makes."""
    run, seen = TrainingStep.run, []

    def spy(self: TrainingStep, batch: Any, index: int) -> Any:
        seen.append(len(batch[0]))
        return run(self, batch, index)

    monkeypatch.setattr(TrainingStep, "run", spy)
    return seen


@pytest.mark.sampled
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"held_out": loader(classification_data(40))},
        {"perturbations": Perturbations(sigmas=[0.1], count=4)},
        {"surface": Surface(directions="random", points=3)},
    ],
)
def test_cost_is_a_third_of_the_samples_that_were_evaluated(
    evaluated: list[int], options: dict[str, Any]
) -> None:
    callback = difference(num_samples="all", every_n_epochs=1, **options)
    trainer(callback, max_epochs=2).fit(Classifier(), loader(classification_data(160)))
    assert len(callback.reports) == 3
    # but for a batch of eight that is compared once in both modes, at the charge of the set-up
    wanted = (sum(evaluated) - 2 * 8) / 3
    assert sum(report.cost for report in callback.reports) == pytest.approx(wanted)


@pytest.mark.parametrize("count", [160, 200, 320])
def test_cost_is_what_was_foreseen(count: int) -> None:
    callback = difference(num_samples="all", every_n_epochs=1)
    trainer(callback, max_epochs=2).fit(
        Classifier(), loader(classification_data(count), batch_size=20)
    )
    study = LossDifferenceStudy(DifferenceOptions(), seed=0)
    first, *later = [report.cost for report in callback.reports]
    # a loss in batches of one size: two samples less are evaluated alone
    assert first == pytest.approx(study.least_price(count, is_first=True) - 2 / 3)
    assert later == pytest.approx([study.least_price(count)] * 2)
    assert study.least_price(count) < 0.37 * count


@pytest.mark.slow
def test_products_are_counted_beside_and_evaluations_for_them_are_not() -> None:
    cheap, dear = difference(num_samples="all"), difference(num_samples="all", derivatives=True)
    data = classification_data(160)
    trainer(cheap, max_steps=1).fit(Classifier(), loader(data))
    trainer(dear, max_steps=1).fit(Classifier(), loader(data))
    for less, more in zip(cheap.reports, dear.reports, strict=True):
        assert more.cost == pytest.approx(less.cost + 160 * (2 * more.num_hvps + 2))
        assert more.num_hvps > 0


class Turning(Classifier):
    """From its second epoch on a contrastive loss."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if self.current_epoch == 0:
            return super().training_step(batch, batch_idx)
        features = F.normalize(self.network(batch[0]), dim=-1)
        return F.cross_entropy(features @ features.T, torch.arange(len(features)))


def test_a_loss_that_turns_in_the_middle_of_a_fit_is_refused() -> None:
    callback = difference(num_samples="all", every_n_train_steps=3)
    with pytest.raises(RefusedError, match="is not made of the losses of its samples"):
        trainer(callback, max_epochs=2).fit(Turning(), loader())
    assert [report.global_step for report in callback.reports] == [0, 3, 4]


def test_another_fit_is_verified_anew(evaluated: list[int]) -> None:
    callback = difference(num_samples="all", every_n_epochs=None)
    for _ in range(2):
        trainer(callback, max_steps=1).fit(Classifier(), loader())
    first, second, third, fourth = (report.cost for report in callback.reports)
    assert first == third > second == fourth


def test_a_fit_that_goes_on_is_verified_anew(tmp_path: Any) -> None:
    callback = difference(num_samples="all", every_n_epochs=None)
    part = trainer(callback, max_epochs=1)
    part.fit(Classifier(), loader())
    part.save_checkpoint(tmp_path / "part.ckpt")
    other = difference(num_samples="all", every_n_epochs=1)
    trainer(other, max_epochs=2).fit(Classifier(), loader(), ckpt_path=tmp_path / "part.ckpt")
    assert other.reports[-1].cost == callback.reports[0].cost


def simulated(pace: Pace, batches: int, due: int | None) -> list[float]:
    """Prices of the reports that a plan lets be made in a fit of so many batches."""
    buyer, plan, made = pace._buyer, pace.plan, []
    assert plan is not None
    places = plan.places if due is None else range(due, batches, due * plan.stride)
    for event in (0, *(places or ()), batches):
        moment = "start" if event == 0 else "end" if event == batches else "step"
        pace._batches = event
        allowance = pace._allowance(Event(moment, Steps(event, event), 0))  # type: ignore[arg-type]
        if allowance:
            made.append(buyer.least_price(plan.num_samples, is_first=not made))
            pace.account(made[-1])
    return made


@pytest.mark.parametrize("options", [{}, {"perturbations": Perturbations(sigmas=[0.1], count=4)}])
@pytest.mark.parametrize("points", [None, 3, 4, 7, 20])
@pytest.mark.parametrize("trained", [6_000, 10_000, 21_564, 96_000, 1_000_000, 30_000_000])
def test_all_points_of_a_plan_are_made_and_within_the_budget(
    trained: int, points: int | None, options: dict[str, Any]
) -> None:
    batches = trained // 50
    every = None if points is None else batches // (points - 1)
    schedule = Schedule.of(
        every_n_epochs="auto" if points is None else None,
        every_n_train_steps=every,
        at_checkpoints=False,
        has_limit=True,
    )
    study = LossDifferenceStudy(DifferenceOptions(**options), seed=0)
    pace = Pace(schedule, 0.1, study)
    length = FitLength(num_batches=batches, batch_size=50, population=10**6)
    plan = pace.prepare(length, lambda count, _: count)
    assert plan is not None
    made = simulated(pace, batches, every)
    least = study.least_price(128, is_first=True) + 9 * study.least_price(128)
    if budget(0.1, trained) >= least:
        assert len(made) >= min(10, points or 10) - 1
        assert sum(made) <= budget(0.1, trained)
    assert 128 <= plan.num_samples <= 2048


def test_at_the_defaults_a_short_fit_gets_ten_reports() -> None:
    callback = LossDifference(on_error="raise")
    trainer(callback, max_epochs=12).fit(
        Classifier(), loader(classification_data(1_000), batch_size=32)
    )
    assert len(callback.reports) == 10
    assert callback.reports[-1].overhead <= 0.5
