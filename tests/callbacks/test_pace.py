"""When to measure: every answer, and its reason."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from lightning_hessian.fit import Decision, Event, Moment, OverheadBudget, Pace, Schedule
from lightning_hessian.fit.pace import DUE

EXPECTED_GRADIENTS = 4.0
TOO_DEAR = "it would take more than `max_overhead=0.1`"
ALWAYS: tuple[Moment, ...] = ("checkpoint", "end", "request")
SPACED: tuple[Moment, ...] = ("start", "step", "epoch")


class Clock:
    """Stands still unless it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Fit:
    """What a pace asks of a fit, answered as a test wishes; it keeps what it was asked."""

    clock: Clock
    num_training_batches: float = 2.0
    planned: float = math.inf
    obstacle: str | None = None
    are_new: bool = True
    gradient_seconds: float | None = 0.25
    is_first: bool | None = None
    wrong: Exception | None = None
    is_known: bool = False
    asked: list[str] = field(default_factory=list)

    def hindrance(self, event: Event) -> str | None:
        self.asked.append("hindrance")
        return self.obstacle

    def compare_weights(self, event: Event) -> bool:
        self.asked.append("compare_weights")
        return self.are_new

    def look(self) -> None:
        self.asked.append("look")
        if self.wrong is not None:
            raise self.wrong
        self.is_known = True

    def time_gradient(self, clock: Callable[[], float]) -> float | None:
        self.asked.append("time_gradient")
        if self.gradient_seconds is None:
            return None
        before = clock()
        self.clock.now += self.gradient_seconds
        return clock() - before

    def batches_to_come(self) -> float:
        return self.planned

    def first_says(self, fact: bool) -> bool:
        self.asked.append("first_says")
        return fact if self.is_first is None else self.is_first


def begun(
    limit: float | None = 0.1,
    *,
    every_n_epochs: int | None = 1,
    every_n_train_steps: int | None = 1,
    has_limit: bool = True,
    at: int = 0,
    **answers: object,
) -> tuple[Pace, Fit, Clock]:
    clock = Clock()
    schedule = Schedule(
        every_n_epochs=every_n_epochs,
        every_n_train_steps=every_n_train_steps,
        at_checkpoints=False,
    )
    pace = Pace(schedule, limit, EXPECTED_GRADIENTS)
    pace.budget = OverheadBudget(limit, clock=clock)
    fit = Fit(clock, **answers)  # type: ignore[arg-type]
    pace.begin(fit, at, has_limit=has_limit)
    return pace, fit, clock


def decide(pace: Pace, moment: Moment, step: int = 1, epoch: int = 0) -> Decision:
    with pace.budget:
        return pace.decide(Event(moment, step, epoch))


def train(pace: Pace, clock: Clock, seconds: float) -> None:
    clock.now += seconds
    pace.budget.num_batches += 1


def measure(pace: Pace, clock: Clock, step: int, seconds: float) -> tuple[float, int]:
    """As a callback does that was told to."""
    with pace.budget:
        clock.now += seconds
        told = pace.account(Event("step", step, 0))
        pace.end_measurement(has_numbers=True)
    return told


@pytest.mark.parametrize("moment", DUE)
def test_outside_a_fit_nothing_is_measured(moment: Moment) -> None:
    pace, _, _ = begun()
    pace.end()
    assert decide(pace, moment) == Decision(False, "no fit is running")


@pytest.mark.parametrize("moment", DUE)
def test_without_a_limit_all_that_is_due_is_measured_for_its_own_reason(moment: Moment) -> None:
    pace, fit, _ = begun(None)
    assert decide(pace, moment) == Decision(True, DUE[moment])
    # nothing is looked at or timed for a price that does not matter
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
    pace, fit, _ = begun(None, every_n_epochs=2, every_n_train_steps=3)
    wanted = Decision(True, DUE[moment]) if is_due else Decision(False, "nothing is due")
    assert decide(pace, moment, step, epoch) == wanted
    assert bool(fit.asked) == is_due


def test_a_batch_of_an_accumulation_is_no_step() -> None:
    pace, _, _ = begun(None, every_n_train_steps=2, at=2)
    found = [decide(pace, "step", step).measure for step in (2, 3, 3, 4, 4, 4, 5, 6)]
    assert found == [False, False, False, True, False, False, False, True]


@pytest.mark.parametrize("moment", DUE)
def test_a_hindrance_is_the_reason_and_nothing_else_is_asked(moment: Moment) -> None:
    pace, fit, _ = begun(obstacle="samples have still to come by")
    assert decide(pace, moment) == Decision(False, "samples have still to come by")
    assert fit.asked == ["hindrance"]
    # nor does it count as left out for its price
    pace.budget.count_made(9)
    assert pace.budget.count_skipped() == 0


def test_weights_are_not_read_where_measuring_is_too_dear_anyway() -> None:
    pace, fit, clock = begun()
    measure(pace, clock, 1, seconds=1.0)
    train(pace, clock, 1.0)
    fit.asked.clear()
    assert decide(pace, "step", 2) == Decision(False, TOO_DEAR)
    assert "compare_weights" not in fit.asked
    train(pace, clock, 100.0)
    fit.are_new = False
    assert decide(pace, "step", 3) == Decision(False, "these weights were measured last")


def test_what_is_asked_while_a_measurement_runs_does_not_make_it_cheaper() -> None:
    pace, fit, clock = begun(0.5)
    train(pace, clock, 20.0)
    with pace.budget:
        assert pace.decide(Event("step", 1, 0)).measure
        clock.now += 6.0
        fit.obstacle = "a measurement is running"
        assert not pace.decide(Event("checkpoint", 1, 0)).measure
        pace.account(Event("step", 1, 0))
        pace.end_measurement(has_numbers=True)
    fit.obstacle = None
    # a gradient's 0.25 s with it: 6.25 + 2 * 6.25 <= 18.75
    train(pace, clock, 17.0)
    assert not decide(pace, "step", 2).measure
    train(pace, clock, 0.5)
    assert decide(pace, "step", 3).measure


@pytest.mark.parametrize("moment", DUE)
def test_weights_measured_last_are_not_measured_again(moment: Moment) -> None:
    pace, fit, _ = begun(are_new=False)
    assert decide(pace, moment) == Decision(False, "these weights were measured last")
    assert "look" not in fit.asked


@pytest.mark.parametrize("moment", ALWAYS)
def test_end_checkpoints_and_requests_are_measured_whatever_it_costs(moment: Moment) -> None:
    pace, fit, clock = begun(1e-9)
    measure(pace, clock, 1, seconds=1e6)
    assert decide(pace, moment, 2) == Decision(True, DUE[moment])
    assert "first_says" not in fit.asked


@pytest.mark.parametrize("moment", SPACED)
def test_what_would_take_more_than_its_share_is_left_out_and_counted(moment: Moment) -> None:
    pace, _, clock = begun()
    train(pace, clock, 1.0)
    assert decide(pace, moment, 1) == Decision(False, TOO_DEAR)
    assert measure(pace, clock, 2, seconds=1.0)[1] == 1


def test_the_start_is_measured_if_both_ends_are_a_small_share_of_the_planned_batches() -> None:
    # 2 * 4 gradients over two batches <= 0.1 * 160 batches
    for planned, wanted in (
        (159.0, Decision(False, TOO_DEAR)),
        (160.0, Decision(True, "the fit begins")),
        (math.inf, Decision(False, TOO_DEAR)),
    ):
        pace, fit, _ = begun(planned=planned)
        assert decide(pace, "start", 0) == wanted
        # it is looked in any case; and timed where later moments go by it
        assert ("time_gradient" in fit.asked) is not wanted.measure
        assert fit.asked.count("look") == 1


def test_what_is_wrong_with_the_samples_is_raised_at_the_first_look() -> None:
    pace, _, _ = begun(wrong=ValueError("no such parameters"))
    with pytest.raises(ValueError, match="no such parameters"):
        decide(pace, "start", 0)


def test_the_first_is_foreseen_from_a_gradient_and_later_ones_from_what_they_took() -> None:
    pace, _, clock = begun()
    assert not decide(pace, "start", 0).measure
    made = []
    for step in range(1, 41):
        train(pace, clock, 1.0)
        if decide(pace, "step", step).measure:
            made.append(step)
            measure(pace, clock, step, seconds=0.5)
    # a gradient's 0.25 s; 0.25 + 2 * 1 <= step / 10, then, as n are made, n / 2 + 0.25 + 2 * 0.5
    assert made == [23, 24, 25, 28, 33, 38]


def test_without_a_gradient_the_first_is_foreseen_from_the_pace_of_the_training() -> None:
    pace, _, clock = begun(0.5, gradient_seconds=None)
    assert not decide(pace, "start", 0).measure
    # 2 * 4 gradients over two batches of one second each <= 0.5 * 32
    for step in range(1, 33):
        train(pace, clock, 1.0)
        assert decide(pace, "step", step).measure is (step == 32)


@pytest.mark.parametrize("is_first", [True, False])
def test_the_first_process_decides_for_all(is_first: bool) -> None:
    for seconds in (0.0, 1e6):
        pace, _, clock = begun(is_first=is_first)
        train(pace, clock, seconds)
        assert decide(pace, "step").measure is is_first


@pytest.mark.parametrize("moment", DUE)
def test_without_regard_to_the_limit_nothing_is_left_out(moment: Moment) -> None:
    pace, _, _ = begun(1e-9, has_limit=False)
    assert decide(pace, moment) == Decision(True, DUE[moment])
    assert pace.may_grow(1e9)
    assert pace.summary() is None


def test_a_sample_may_grow_as_far_as_the_share_goes() -> None:
    pace, _, clock = begun()
    train(pace, clock, 100.0)
    assert decide(pace, "step").measure
    with pace.budget:
        clock.now += 2.0
        # a gradient's 0.25 s before, 2 s now, and as many again times the factor
        assert pace.may_grow(3.4)
        assert not pace.may_grow(4.0)


def test_a_failed_report_tells_nothing_of_the_next_ones_cost() -> None:
    pace, _, clock = begun()
    train(pace, clock, 100.0)
    assert decide(pace, "step", 1).measure
    with pace.budget:
        pace.account(Event("step", 1, 0))
        clock.now += 4.0
        pace.end_measurement(has_numbers=False)
    # by the gradient: 4.25 + 2 * 1 <= 10; by the failure it would be 4.25 + 2 * 4
    assert decide(pace, "step", 2).measure


@pytest.mark.parametrize("moment", DUE)
@pytest.mark.parametrize("obstacle", [None, "a measurement is running"])
def test_every_answer_is_logged_with_its_reason(
    moment: Moment, obstacle: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    pace, _, _ = begun(None, obstacle=obstacle)
    with caplog.at_level(logging.DEBUG, logger="lightning_hessian.fit.pace"):
        decision = decide(pace, moment, 3, 2)
    (record,) = [r for r in caplog.records if r.name == "lightning_hessian.fit.pace"]
    assert record.levelno == logging.DEBUG
    answer = "leave out" if obstacle else "measure"
    event = f"Event(moment='{moment}', global_step=3, epoch=2)"
    assert record.getMessage() == f"{event}: {answer}, as {decision.why}"
    assert decision.why == (obstacle or DUE[moment])


def test_nothing_is_logged_where_nobody_listens(caplog: pytest.LogCaptureFixture) -> None:
    pace, _, _ = begun(None)
    with caplog.at_level(logging.INFO, logger="lightning_hessian.fit.pace"):
        decide(pace, "end")
    assert caplog.records == []
