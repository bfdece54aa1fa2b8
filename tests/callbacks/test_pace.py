"""When to measure, and for how much: every answer, and its reason."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import ClassVar

import pytest

from lightning_hessian.fit import Decision, Event, FitLength, Moment, Pace, Schedule, Steps
from lightning_hessian.fit.pace import DUE
from lightning_hessian.fit.plan import GROWTH, budget

BATCH = 50
PRICE = 1_000.0


class Buyer:
    """Knows one price, twice as high for the first report."""

    fewest_samples: ClassVar[int] = 128

    def sample_size(self, allowance: float) -> int:
        return 128

    def least_price(self, num_samples: int, *, is_first: bool = False) -> float:
        return 2 * PRICE if is_first else PRICE

    def setup_price(self, num_samples: int) -> float:
        return 0.0

    def fair_price(self, num_samples: int) -> float:
        return 1.2 * PRICE

    def usual_price(self, num_samples: int) -> float:
        return 1.5 * PRICE

    def describe(self, num_samples: int, allowance: float) -> str:
        return f"{allowance:.0f} each"


@dataclass
class Fit:
    """What a pace asks of a fit, answered as a test wishes; it keeps what it was asked."""

    obstacle: str | None = None
    are_new: bool = True
    asked: list[str] = field(default_factory=list)

    def hindrance(self, event: Event) -> str | None:
        self.asked.append("hindrance")
        return self.obstacle

    def compare_weights(self, event: Event) -> bool:
        self.asked.append("compare_weights")
        return self.are_new


def begun(
    limit: float | None = 0.1,
    *,
    schedule: Schedule = Schedule(every_n_epochs=1, every_n_train_steps=1),  # noqa: B008
    has_limit: bool = True,
    at: int = 0,
    spent: float = 0.0,
    num_made: int = 0,
    obstacle: str | None = None,
    are_new: bool = True,
    num_batches: float = 2_000,
    **known: object,
) -> tuple[Pace, Fit]:
    pace = Pace(schedule, limit, Buyer())
    length = FitLength(num_batches=num_batches, batch_size=BATCH, num_done=at, **known)  # type: ignore[arg-type]
    pace.prepare(length, lambda n, _: n, spent=spent, num_made=num_made, has_limit=has_limit)
    fit = Fit(obstacle, are_new)
    pace.begin(fit, Steps(at, at))
    return pace, fit


def decide(pace: Pace, moment: Moment, step: int = 1, epoch: int = 0) -> Decision:
    return pace.decide(Event(moment, Steps(step, step), epoch))


def course(pace: Pace, num_batches: int, *, cost: float | None = None) -> list[tuple[int, float]]:
    """Train to the end, each report costing what it may; the batches and the allowances."""
    points = []

    def ask(moment: Moment, batch: int) -> None:
        decision = decide(pace, moment, batch)
        if decision.measure:
            assert decision.allowance is not None
            points.append((batch, decision.allowance))
            pace.account(decision.allowance if cost is None else cost)

    ask("start", 0)
    for batch in range(1, num_batches + 1):
        pace.count_batch()
        ask("step", batch)
    ask("end", num_batches)
    return points


@pytest.mark.parametrize("moment", DUE)
def test_outside_a_fit_nothing_is_measured(moment: Moment) -> None:
    pace, _ = begun()
    pace.end()
    assert decide(pace, moment) == Decision(False, "no fit is running")


@pytest.mark.parametrize("moment", DUE)
def test_without_a_limit_all_that_is_due_is_measured_for_its_own_reason(moment: Moment) -> None:
    pace, fit = begun(None)
    assert decide(pace, moment) == Decision(True, DUE[moment], None)
    assert fit.asked == ["hindrance", "compare_weights"]


@pytest.mark.parametrize(
    ("moment", "step", "epoch", "is_due"),
    [
        ("step", 3, 0, True),
        ("step", 4, 0, False),
        ("epoch", 4, 1, True),
        ("epoch", 4, 0, False),
        ("start", 4, 0, True),
        ("end", 4, 0, True),
        ("checkpoint", 4, 0, True),
        ("request", 4, 0, True),
    ],
)
def test_between_start_and_end_the_schedule_says_what_is_due(
    moment: Moment, step: int, epoch: int, is_due: bool
) -> None:
    schedule = Schedule(every_n_epochs=2, every_n_train_steps=3)
    pace, fit = begun(None, schedule=schedule, at=step - 1)
    wanted = Decision(True, DUE[moment]) if is_due else Decision(False, "nothing is due")
    assert decide(pace, moment, step, epoch) == wanted
    assert bool(fit.asked) == is_due


def test_a_batch_of_an_accumulation_is_no_step() -> None:
    pace, _ = begun(None, schedule=Schedule(every_n_train_steps=2), at=2)
    found = [decide(pace, "step", step).measure for step in (2, 3, 3, 4, 4, 4, 5, 6)]
    assert found == [False, False, False, True, False, False, False, True]


@pytest.mark.parametrize("moment", DUE)
def test_a_hindrance_is_the_reason_and_nothing_else_is_asked(moment: Moment) -> None:
    pace, fit = begun(obstacle="samples have still to come by", at=1_000)
    assert decide(pace, moment, 2_000).why in ("samples have still to come by", "nothing is due")
    assert "compare_weights" not in fit.asked


@pytest.mark.parametrize("moment", DUE)
def test_weights_measured_last_are_not_measured_again(moment: Moment) -> None:
    pace, _ = begun(None, are_new=False)
    assert decide(pace, moment) == Decision(False, "these weights were measured last")


@pytest.mark.parametrize("num_batches", [400, 2_000, 40_000])
def test_what_a_plan_promises_is_kept_to_the_last_sample_gradient(num_batches: int) -> None:
    pace, _ = begun(schedule=Schedule(is_planned=True), num_batches=num_batches)
    points = course(pace, num_batches)
    total = budget(0.1, num_batches * BATCH)
    assert pace.plan is not None
    assert [batch for batch, _ in points] == [0, *(pace.plan.places or ()), num_batches]
    assert sum(allowance for _, allowance in points) == pytest.approx(total)
    assert pace.share == pytest.approx(total / (num_batches * BATCH))


def test_all_points_get_the_same_and_the_end_what_is_left() -> None:
    pace, _ = begun(schedule=Schedule(is_planned=True), num_batches=40_000)
    *points, end = (allowance for _, allowance in course(pace, 40_000))
    assert points == pytest.approx([points[0]] * len(points))
    assert end == pytest.approx(pace.plan.end_weight * points[0])  # type: ignore[union-attr]
    # reports that cost less than they may leave it to those that follow
    pace, _ = begun(schedule=Schedule(is_planned=True), num_batches=40_000)
    *points, end = (allowance for _, allowance in course(pace, 40_000, cost=PRICE))
    assert points == sorted(points)
    assert end == pytest.approx(budget(0.1, 40_000 * BATCH) - len(points) * PRICE)


def test_two_runs_measure_at_the_same_batches_for_the_same() -> None:
    first, second = (
        course(begun(schedule=Schedule(is_planned=True), num_batches=777)[0], 777) for _ in range(2)
    )
    assert first == second


def test_a_resumed_fit_goes_on_with_what_is_left() -> None:
    whole, _ = begun(schedule=Schedule(is_planned=True))
    points = course(whole, 2_000)
    done = [(batch, allowance) for batch, allowance in points if batch <= 500]
    spent = sum(allowance for _, allowance in done)
    resumed, _ = begun(schedule=Schedule(is_planned=True), at=500, spent=spent, num_made=len(done))
    rest = []
    for batch in range(501, 2_001):
        resumed.count_batch()
        decision = decide(resumed, "step", batch)
        if decision.measure:
            rest.append(batch)
            resumed.account(decision.allowance or 0.0)
    assert rest == [batch for batch, _ in points if 500 < batch < 2_000]


def test_without_an_end_in_sight_each_point_is_earned_first() -> None:
    pace, _ = begun(schedule=Schedule(is_planned=True), num_batches=math.inf)
    points = course(pace, 20_000)
    spent = 0.0
    for batch, allowance in points[1:-1]:
        spent += allowance
        # the start is a loan
        assert spent <= budget(0.1, batch * BATCH) + 1e-6
        # not before what a report with both ends of its interval costs is there
        assert allowance >= Buyer().fair_price(128)
    batches = [batch for batch, _ in points]
    assert len(batches) >= 10
    assert all(after >= GROWTH * before for before, after in pairwise(batches[1:-1]))


def test_a_fit_that_stops_early_has_not_earned_what_was_planned() -> None:
    pace, _ = begun(schedule=Schedule(is_planned=True), num_batches=40_000)
    decide(pace, "start")
    pace.account(PRICE)
    for _ in range(100):
        pace.count_batch()
    allowance = decide(pace, "end", 100).allowance
    assert allowance == pytest.approx(budget(0.1, 100 * BATCH) - PRICE)


def test_the_end_is_measured_even_where_nothing_is_left() -> None:
    pace, _ = begun(schedule=Schedule(every_n_epochs=1), spent=1e9, num_made=5, at=1_000)
    assert decide(pace, "end", 2_000) == Decision(True, "the fit ends", PRICE)
    assert decide(pace, "epoch", 1_000) == Decision(
        False, "it would take more than `max_overhead=0.1`"
    )
    assert pace.account(PRICE)[1] == 1
    assert "1 due moments were left out for `max_overhead=0.1`" in pace.summary()


def test_where_half_of_the_training_pays_for_one_report_it_is_that_of_the_end() -> None:
    pace, _ = begun(schedule=Schedule(is_planned=True), num_batches=100)
    points = course(pace, 100)
    assert [batch for batch, _ in points] == [100]
    assert pace.share <= 0.5
    assert pace.promise().startswith("one report at the end on 128 samples, ")


def test_what_the_one_report_of_a_tiny_training_costs_is_said_as_it_is() -> None:
    pace, _ = begun(schedule=Schedule(is_planned=True), num_batches=20)
    assert ": at most 200% of this training. It is too short for a curve" in pace.promise()
    course(pace, 20, cost=2 * PRICE)
    assert pace.share == 2


def test_what_cannot_be_paid_for_is_said_when_the_fit_begins() -> None:
    pace, _ = begun(schedule=Schedule(every_n_train_steps=1))
    assert "only every" in pace.promise()
    assert "give None for all" in pace.promise()
    pace, _ = begun(schedule=Schedule(is_planned=True), num_batches=400)
    assert "50% of this training" in pace.promise()
    assert "too short for a curve by `max_overhead=0.1`" in pace.promise()
    pace, _ = begun(schedule=Schedule(is_planned=True), num_batches=40_000)
    assert pace.promise() == "10 reports on 128 samples, 16667 each: at most 10% of this training."


def test_a_sample_may_grow_as_far_as_its_report_may_cost() -> None:
    pace, _ = begun()
    assert pace.may_grow(None, 100.0, 1e9)
    assert pace.may_grow(500.0, 100.0, 4.0)
    assert not pace.may_grow(500.0, 100.0, 4.1)


def test_a_trial_run_and_an_analysis_have_no_limit() -> None:
    pace, _ = begun(has_limit=False)
    assert pace.plan is None
    assert decide(pace, "end").allowance is None
    pace, _ = begun()
    assert decide(pace, "request").allowance is None


@pytest.mark.parametrize("share", [0, 1, -0.1, True, "much"])
def test_a_share_is_between_zero_and_one(share: object) -> None:
    with pytest.raises(ValueError, match=r"`max_overhead` must be a number between 0 and 1"):
        Pace(Schedule(), share, Buyer())  # type: ignore[arg-type]


def test_each_decision_is_logged_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    pace, _ = begun(None)
    with caplog.at_level(logging.DEBUG, logger="lightning_hessian.fit.pace"):
        decide(pace, "end", 7)
    assert "measure, as the fit ends" in caplog.text
    assert "global_step=7" in caplog.text
