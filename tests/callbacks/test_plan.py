"""What a budget buys: laws of the plan, from sizes alone."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from lightning_hessian.fit import FitLength, Plan, Schedule
from lightning_hessian.fit.plan import FLOOR, budget, make_plan
from lightning_hessian.options import DifferenceOptions, SpectrumOptions
from lightning_hessian.studies import LossDifferenceStudy, SpectrumStudy
from lightning_hessian.studies.trade import price

SPREAD = Schedule(is_planned=True)


def planned(
    trained: int,
    *,
    batch_size: int = 50,
    share: float = 0.1,
    schedule: Schedule = SPREAD,
    **known: object,
) -> Plan:
    length = FitLength(num_batches=trained / batch_size, batch_size=batch_size, **known)  # type: ignore[arg-type]
    study = SpectrumStudy(SpectrumOptions(), seed=0)

    def wanted(affordable: int, population: int | None) -> int:
        return affordable if population is None else min(affordable, population)

    return make_plan(length, share, schedule, study, wanted)


@pytest.mark.parametrize(
    ("trained", "bought"),
    [
        (1_000, 500),  # half of the training
        (40_000, FLOOR),  # where the floor takes over
        (100_000, FLOOR),
        (200_000, FLOOR),  # where the share takes over
        (1_000_000, 100_000),
    ],
)
def test_a_budget_is_a_share_of_the_training_and_never_more_than_half(
    trained: int, bought: float
) -> None:
    assert budget(0.1, trained) == pytest.approx(bought)


@pytest.mark.parametrize(
    ("trained", "points"), [(8_000, 8), (21_564, 8), (96_000, 10), (30_000_000, 10)]
)
def test_every_fit_gets_a_curve(trained: int, points: int) -> None:
    plan = planned(trained)
    assert plan.places is not None
    assert plan.num_points == len(plan.places) + 2 == points


@pytest.mark.parametrize(("trained", "points"), [(1_400, 1), (3_000, 2), (5_000, 4)])
def test_a_very_short_training_gets_the_points_that_half_of_it_pays(
    trained: int, points: int
) -> None:
    assert planned(trained).num_points == points


@pytest.mark.parametrize("trained", [4_000, 4_700, 10_000, 21_564, 300_000, 30_000_000])
def test_a_plan_keeps_within_its_budget(trained: int) -> None:
    plan = planned(trained)
    assert 48 <= plan.num_samples <= 2048
    # the first report starts from nothing, the others from the one before, by four products
    first, later = price(plan.num_samples, 6), price(plan.num_samples, 4 if trained > 5_000 else 2)
    assert first + (plan.num_points - 1) * later <= plan.total


def test_the_early_phase_is_seen() -> None:
    plan = planned(100_000, batch_size=50)
    assert plan.places is not None
    places = [0, *plan.places, 2_000]
    gaps = [after - before for before, after in pairwise(places)]
    assert gaps == sorted(gaps)
    assert gaps[0] == round(2_000 / 81)


def test_a_larger_budget_buys_samples_first_and_products_later() -> None:
    counts = [planned(trained).num_samples for trained in (100_000, 500_000, 1_000_000, 10_000_000)]
    assert counts == sorted(counts)
    assert counts[0] == 185
    assert 600 <= counts[2] <= 800
    assert counts[3] <= 2048


def test_no_more_samples_than_there_are() -> None:
    assert planned(10_000_000, population=300).num_samples == 300


def test_of_what_a_schedule_asks_for_no_more_is_taken_than_the_budget_pays() -> None:
    every_step = planned(100_000, schedule=Schedule(every_n_train_steps=1))
    assert every_step.stride > 1
    assert every_step.places is None
    least = price(every_step.num_samples, 2)
    assert every_step.num_points * least <= every_step.total
    # and no fewer than it pays for
    assert (2 * every_step.num_points + 1) * least > every_step.total
    epochs = Schedule(every_n_epochs=1)
    assert planned(100_000, schedule=epochs, batches_per_epoch=200).stride == 1


def test_checkpoints_are_points_of_the_plan() -> None:
    plan = planned(1_000_000, schedule=Schedule(at_checkpoints=True), num_checkpoints=30)
    assert plan.num_points == 31
    assert plan.stride == 1


@pytest.mark.parametrize("known", [{"may_end_early": True}, {}])
def test_without_a_known_end_there_are_no_places(known: dict[str, bool]) -> None:
    plan = planned(1_000_000, **known) if known else make_endless()
    assert plan.places is None
    assert not plan.has_end
    assert plan.total == math.inf
    assert plan.num_samples == 185


def make_endless() -> Plan:
    study = SpectrumStudy(SpectrumOptions(), seed=0)
    length = FitLength(num_batches=math.inf, batch_size=50)
    return make_plan(length, 0.1, SPREAD, study, lambda affordable, _: affordable)


def test_a_plan_depends_on_nothing_but_sizes() -> None:
    assert planned(123_456) == planned(123_456)


def test_only_where_points_would_be_missing_are_samples_given_up() -> None:
    # the price of a loss difference has a part that does not grow with the samples
    study = LossDifferenceStudy(DifferenceOptions(), seed=0)
    length = FitLength(num_batches=1_920, batch_size=50, population=8_000)
    plan = make_plan(length, 0.1, SPREAD, study, lambda affordable, _: affordable)
    assert plan.num_samples == study.sample_size(plan.total / (plan.num_points + 2)) == 2_048
