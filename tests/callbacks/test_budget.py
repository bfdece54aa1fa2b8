"""How much of the training's time measuring takes, by a clock that the tests move."""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from lightning_hessian import HessianSpectrum, Loss, LossDifference, analyze
from lightning_hessian.callbacks import MeasuringCallback
from lightning_hessian.fit import (
    FitLoss,
    OverheadBudget,
    Pace,
    Recorder,
    Schedule,
    planned_batches,
)
from lightning_hessian.options import DifferenceOptions, LossSetup, SpectrumOptions
from lightning_hessian.records import SpectrumReport
from lightning_hessian.studies import LossDifferenceStudy, SpectrumStudy
from tests.helpers.difference import difference
from tests.helpers.fitting import Classifier, classification_data, loader, trainer
from tests.helpers.spectrum import spectrum, steps


class Clock:
    """Stands still unless it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def opened(limit: float | None = 0.05) -> tuple[OverheadBudget, Clock]:
    clock = Clock()
    budget = OverheadBudget(limit, clock=clock)
    budget.begin()
    return budget, clock


def predicted(seconds: float) -> Callable[[], float]:
    return lambda: seconds


def spend(budget: OverheadBudget, clock: Clock, seconds: float) -> None:
    with budget:
        clock.now += seconds


def train(budget: OverheadBudget, clock: Clock, seconds: float) -> None:
    clock.now += seconds
    budget.num_batches += 1


@pytest.mark.parametrize("limit", [0.01, 0.05, 0.3])
@pytest.mark.parametrize("seed", range(20))
def test_costs_as_foreseen_stay_below_the_limit_unless_start_and_end_alone_exceed_it(
    limit: float, seed: int
) -> None:
    draw = random.Random(seed)
    budget, clock = opened(limit)
    bound = draw.uniform(0.1, 2.0)
    start = draw.uniform(0, bound)
    spend(budget, clock, start)  # freezing and checking, measured or not
    others = highest = 0.0
    for step in range(draw.randint(1, 400)):
        seconds = draw.expovariate(2.0)
        others += seconds
        train(budget, clock, seconds)
        budget.count_due(step)
        if budget.allows(predicted(bound)):
            # never dearer than the last two
            bound *= draw.uniform(0.9, 1.0)
            spend(budget, clock, bound)
            budget.remember_cost(bound)
            budget.count_made(step)
            highest = max(highest, budget.share)
    spend(budget, clock, bound)
    least = (start + bound) / others
    assert budget.trained == pytest.approx(others)
    assert highest <= limit
    assert budget.share <= max(limit, least) * (1 + 1e-12)


def test_as_many_are_made_as_the_limit_has_room_for() -> None:
    budget, clock = opened(0.1)
    made = []
    for step in range(1, 101):
        train(budget, clock, 1.0)
        if budget.allows(predicted(0.5)):
            spend(budget, clock, 0.5)
            budget.remember_cost(0.5)
            made.append(step)
    # spent so far + one now + one at the end <= step / 10
    assert made == list(range(10, 101, 5))
    spend(budget, clock, 0.5)
    assert budget.share == pytest.approx(0.1)


def test_the_dearer_of_the_last_two_costs_is_foreseen_and_older_ones_are_forgotten() -> None:
    budget, clock = opened(0.5)
    train(budget, clock, 10.0)
    assert budget.allows(predicted(2.5))
    assert not budget.allows(predicted(2.6))
    for costs, is_allowed in (([4.0], False), ([4.0, 1.0], False), ([4.0, 1.0, 2.5], True)):
        budget, clock = opened(0.5)
        train(budget, clock, 10.0)
        for cost in costs:
            budget.remember_cost(cost)
        assert budget.allows(predicted(0.0)) is is_allowed


def test_the_time_of_peers_is_not_training_whoever_begins_first() -> None:
    clock = Clock()
    first, second = (OverheadBudget(0.05, clock=clock) for _ in range(2))
    first.begin([second])
    spend(first, clock, 3.0)
    second.begin([first])
    spend(second, clock, 5.0)
    clock.now += 10.0
    spend(first, clock, 1.0)
    assert (first.spent, second.spent) == (4.0, 5.0)
    assert first.trained == second.trained == 10.0
    with first:
        clock.now += 2.0
        # while one is at work
        assert (first.spent, first.trained, second.trained) == (6.0, 10.0, 10.0)


def test_nested_time_counts_once_and_time_outside_a_fit_not_at_all() -> None:
    budget, clock = opened()
    with budget:
        clock.now += 1.0
        with budget:
            clock.now += 1.0
    assert budget.spent == 2.0
    budget.end()
    spend(budget, clock, 1.0)
    assert (budget.spent, budget.trained) == (0.0, 0.0)
    assert math.isnan(budget.share)
    budget.begin()
    assert (budget.spent, budget.trained) == (0.0, 0.0)


def test_what_is_due_twice_at_a_step_counts_once_and_what_is_made_later_there_is_not_skipped() -> (
    None
):
    budget, _ = opened()
    for step in (0, 4, 4, 8, 12):
        budget.count_due(step)
    budget.count_made(12)
    assert [budget.count_skipped(), budget.count_skipped()] == [3, 0]
    budget.count_due(16)
    budget.count_made(20)  # not due: a checkpoint
    budget.count_made(20)
    assert budget.count_skipped() == 1


def test_the_summary_says_what_was_spent_and_which_option_changes_it() -> None:
    budget, clock = opened(0.05)
    train(budget, clock, 200.0)
    budget.count_due(0)
    budget.count_made(8)
    spend(budget, clock, 5.0)
    assert budget.summary() == (
        "training took 200 s and measuring 5 s, 2.5% of that; 1 of 2 due measurements were made. "
        "The others were left out for `max_overhead=0.05`: raise it for more of them, or give None "
        "for all."
    )
    spend(budget, clock, 15.0)
    assert "measuring 20 s, 10.0% of that" in budget.summary()
    assert "more than `max_overhead=0.05`, as the end of a fit and" in budget.summary()


@pytest.mark.parametrize("make", [HessianSpectrum, LossDifference])
@pytest.mark.parametrize("value", [0, 0.0, -0.1, 1, 5, math.nan, math.inf, True, False, "5 %"])
def test_a_limit_is_a_share(make: Callable[..., Any], value: Any) -> None:
    with pytest.raises(
        ValueError, match=r"`max_overhead` must be a number between 0 and 1, .* got .*0\.05 for 5 %"
    ):
        make(max_overhead=value)


class TimedStudy(SpectrumStudy):
    """Measures in a second of a clock that it moves itself; a gradient takes a quarter."""

    expected_gradients = 4.0  # type: ignore[assignment]
    seconds = 1.0

    def __init__(self, clock: Clock) -> None:
        super().__init__(SpectrumOptions(), seed=0)
        self.clock = clock

    def measure(self, loss: Any, **_: Any) -> SpectrumReport:
        self.clock.now += self.seconds
        return SpectrumReport(loss=1.0)


class TimedSession:
    """A session whose gradients take a quarter of a second by the tests' clock."""

    def __init__(self, session: Any, clock: Clock) -> None:
        self._session = session
        self._clock = clock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def time_gradient(self, clock: Callable[[], float]) -> float | None:
        if self._session.time_gradient(clock) is None:
            return None
        before = clock()
        self._clock.now += TimedStudy.seconds / TimedStudy.expected_gradients
        return clock() - before


class TimedPace(Pace):
    """Goes by the tests' clock."""

    def __init__(self, clock: Clock, schedule: Schedule, limit: float | None, study: Any) -> None:
        super().__init__(schedule, limit, study.expected_gradients)
        self.budget = OverheadBudget(limit, clock=clock)
        self._clock = clock

    def begin(self, situation: Any, global_step: int, **options: Any) -> None:
        super().begin(TimedSession(situation, self._clock), global_step, **options)


class Timed(MeasuringCallback[Any]):
    """A callback of the usual parts, but for the clock and what is measured."""

    def __init__(
        self,
        clock: Clock,
        limit: float | None = 0.1,
        *,
        study: Any = None,
        setup: LossSetup | None = None,
        name: str = "hessian",
        on_error: Any = "raise",
        **schedule: Any,
    ) -> None:
        study = study or TimedStudy(clock)
        when = {"every_n_epochs": 1, "every_n_train_steps": None, "at_checkpoints": False}
        super().__init__(
            setup or LossSetup(num_samples=8),
            study,
            TimedPace(clock, Schedule(**(when | schedule)), limit, study),
            Recorder(study.record, name=name, custom_scalars=False, draw=lambda _: {}, settings=""),
            on_error,
        )


class Stops(pl.Callback):
    def __init__(self, at: int) -> None:
        self.at = at

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        trainer.should_stop = trainer.global_step == self.at


class Ticks(pl.Callback):
    """Makes each step take a second, by the same clock."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def on_train_batch_start(self, *_: Any) -> None:
        self.clock.now += 1.0


def test_due_measurements_are_left_out_and_the_end_is_measured() -> None:
    clock = Clock()
    callback = Timed(clock, every_n_epochs=None, every_n_train_steps=1)
    # a frozen batch is one of the training: the start would need 2 * 4 <= 0.1 * 52 batches
    trainer(Ticks(clock), callback, max_epochs=13).fit(Classifier(), loader())
    # a gradient's 0.25 s at the start; then spent + 2 <= step / 10
    assert steps(callback) == [23, 33, 43, 52]
    assert [r.num_skipped for r in callback.reports] == [23, 9, 9, 8]
    wanted = [(n + 1.25) / step for n, step in enumerate(steps(callback))]
    assert [r.overhead for r in callback.reports] == pytest.approx(wanted)


def test_the_start_is_measured_if_the_planned_training_is_long_enough() -> None:
    for epochs, is_measured in ((19, False), (20, True)):
        clock = Clock()
        callback = Timed(clock, every_n_epochs=None)
        # 2 * 4 gradients over one batch <= 0.1 * 4 batches * epochs
        trainer(Ticks(clock), callback, max_epochs=epochs).fit(Classifier(), loader())
        assert steps(callback) == ([0] if is_measured else []) + [4 * epochs]
    assert math.isnan(callback.reports[0].overhead)


def test_without_an_end_in_sight_the_start_is_left_out() -> None:
    clock = Clock()
    callback = Timed(clock, limit=0.9, every_n_epochs=None)
    trainer(Ticks(clock), callback, Stops(at=6), max_epochs=-1).fit(Classifier(), loader())
    assert steps(callback) == [6]


def test_no_limit_leaves_nothing_out_and_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    callback = Timed(clock, None)
    assert "due measurements" not in said(caplog, callback, Ticks(clock))
    assert steps(callback) == [0, 4, 8]
    assert [r.num_skipped for r in callback.reports] == [0, 0, 0]
    assert [r.overhead for r in callback.reports[1:]] == pytest.approx([2 / 4, 3 / 8])


def said(caplog: pytest.LogCaptureFixture, *callbacks: pl.Callback) -> str:
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    logger.addHandler(caplog.handler)
    try:
        with caplog.at_level(logging.INFO):
            trainer(*callbacks, max_epochs=2).fit(Classifier(), loader())
    finally:
        logger.removeHandler(caplog.handler)
    return caplog.text


def test_in_the_end_it_is_said_what_was_done(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    text = said(caplog, Timed(clock), Ticks(clock))
    wanted = (
        "Timed (hessian): training took 8 s and measuring 1.25 s, 15.6% of that; 1 of 3 due "
        "measurements were made. The others were left out for `max_overhead=0.1`"
    )
    assert wanted in text
    assert "more than `max_overhead=0.1`" in text


def test_the_first_report_of_a_fit_tells_of_its_own_account_only() -> None:
    clock = Clock()
    callback = Timed(clock)
    for _ in range(2):
        trainer(Ticks(clock), callback, max_epochs=2).fit(Classifier(), loader())
    first, second = callback.reports
    assert first.overhead == second.overhead == 1.25 / 8
    assert first.num_skipped == second.num_skipped == 2


def test_a_callback_beside_another_has_a_share_of_its_own() -> None:
    clock = Clock()
    both = [Timed(clock, name=name, every_n_epochs=None, every_n_train_steps=1) for name in "ab"]
    trainer(Ticks(clock), *both, max_epochs=13).fit(Classifier(), loader())
    # as one alone: the seconds of the other are neither its own nor training
    for callback in both:
        assert steps(callback) == [23, 33, 43, 52]
        assert callback.reports[-1].overhead == pytest.approx(4.25 / 52)


def test_checkpoints_are_measured_in_any_case_and_their_time_counts(tmp_path: Any) -> None:
    class Saves(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            if trainer.global_step in (2, 3):
                trainer.save_checkpoint(tmp_path / "a.ckpt")

    clock = Clock()
    callback = Timed(clock, every_n_epochs=None, every_n_train_steps=1, at_checkpoints=True)
    trainer(Ticks(clock), callback, Saves(), max_epochs=13).fit(Classifier(), loader())
    # the next is made when 2.25 + 2 <= step / 10
    assert steps(callback) == [2, 3, 43, 52]
    assert [r.num_skipped for r in callback.reports] == [2, 0, 39, 8]


def test_what_cannot_be_measured_is_said_at_the_start_of_the_fit() -> None:
    callback = spectrum(max_overhead=0.01, on_error="warn", loss=Loss(parameters=["nothing"]))
    with pytest.warns(UserWarning, match="no numbers at step 0.*`parameters` must match"):
        trainer(callback, max_epochs=2).fit(Classifier(), loader())
    assert steps(callback) == [0]


def test_a_failure_that_may_pass_is_not_tried_again_at_every_due_step() -> None:
    class Fails(TimedStudy):
        def measure(self, loss: Any, **_: Any) -> SpectrumReport:
            super().measure(loss)
            raise ValueError("no")

    clock = Clock()
    options = {"every_n_epochs": None, "every_n_train_steps": 1, "on_error": "warn"}
    callback = Timed(clock, study=Fails(clock), **options)
    with pytest.warns(UserWarning, match="ValueError: no"):
        trainer(Ticks(clock), callback, max_epochs=13).fit(Classifier(), loader())
    assert steps(callback) == [23, 33, 43, 52]


def test_an_opening_that_fails_is_tried_again_when_as_much_time_can_be_spent_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock()

    def prepare(self: FitLoss) -> None:
        clock.now += 1.0
        raise ValueError("no")

    monkeypatch.setattr(FitLoss, "prepare", prepare)
    callback = Timed(clock, every_n_epochs=None, every_n_train_steps=1, on_error="warn")
    with pytest.warns(UserWarning, match="ValueError: no"):
        trainer(Ticks(clock), callback, max_epochs=20).fit(Classifier(), loader())
    # a second at the start; 3 * spent <= step / 10
    assert steps(callback) == [0, 30, 60, 80]


class Stream(IterableDataset[tuple[Tensor, Tensor]]):
    def __iter__(self) -> Any:
        return iter(classification_data(26))


def test_of_a_stream_the_first_is_foreseen_from_a_gradient_when_its_samples_are_there() -> None:
    clock = Clock()
    callback = Timed(
        clock, setup=LossSetup(num_samples=40), every_n_epochs=None, every_n_train_steps=1
    )
    options = {"max_epochs": 13, "limit_train_batches": 4}
    trainer(Ticks(clock), callback, **options).fit(Classifier(), loader(Stream()))
    # with the sixth batch the samples are there
    assert steps(callback) == [23, 33, 43, 52]
    assert callback.reports[0].num_skipped == 23 - 6


def test_without_a_gradient_the_first_is_foreseen_from_the_pace_of_the_training() -> None:
    class AsDear(LossDifferenceStudy):
        expected_gradients = 4.0  # type: ignore[assignment]

    clock = Clock()
    callback = Timed(
        clock,
        0.5,
        study=AsDear(DifferenceOptions(), seed=0),
        setup=LossSetup(num_samples=16, derivatives="none"),
        every_n_epochs=None,
        every_n_train_steps=1,
    )
    trainer(Ticks(clock), callback, Stops(at=40), max_epochs=-1).fit(Classifier(), loader())
    # the two batches of 16 samples take two seconds of training, a measurement eight, and two of
    # them half of 32; by this clock it takes none
    assert steps(callback) == list(range(32, 41))


def test_a_trial_run_has_no_limit() -> None:
    callback = spectrum(max_overhead=0.01)
    trainer(callback, fast_dev_run=True).fit(Classifier(), loader())
    assert steps(callback) == [0, 1]


def test_existing_checkpoints_are_all_analysed_whatever_it_costs(tmp_path: Any) -> None:
    class SavesEach(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            trainer.save_checkpoint(tmp_path / f"{trainer.global_step}.ckpt")

    callback = spectrum(max_overhead=1e-9)
    trainer(SavesEach(), callback, max_epochs=1).fit(Classifier(), loader())
    assert steps(callback) == [4]
    for measuring in (callback, difference(max_overhead=1e-9)):
        reports = analyze(
            Classifier(),
            tmp_path,
            callback=measuring,
            dataloaders=loader(),
            trainer=trainer(),
            sidecar=False,
            verbose=False,
        )
        assert [r.global_step for r in reports] == [1, 2, 3, 4]
        assert [r.failure for r in reports] == [None] * 4
        assert all(math.isnan(r.overhead) and r.num_skipped == 0 for r in reports)


def test_whatever_is_left_out_the_numbers_and_the_training_are_the_same() -> None:
    ends, reports = [], []
    for limit in (None, 1e-9):
        torch.manual_seed(0)
        callback, module = spectrum(max_overhead=limit), Classifier()
        trainer(callback, max_epochs=2).fit(module, loader(shuffle=True))
        ends.append([p.detach().clone() for p in module.parameters()] + [torch.rand(1)])
        reports.append(callback.reports)
    assert [len(each) for each in reports] == [3, 1]
    assert all(a.equal(b) for a, b in zip(*ends, strict=True))
    every, last = reports
    assert every[-1].largest.values.equal(last[0].largest.values)
    assert every[-1].loss == last[0].loss


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"max_epochs": 3}, 12),
        ({"max_epochs": 3, "limit_train_batches": 2}, 6),
        ({"max_steps": 5, "max_epochs": -1}, 5),
        ({"max_steps": 5, "max_epochs": 3}, 5),
        ({"max_steps": 50, "max_epochs": 3}, 12),
        ({"max_steps": 2, "max_epochs": -1, "accumulate_grad_batches": 3}, 6),
        ({"max_epochs": -1}, math.inf),
    ],
)
def test_the_batches_to_come_are_those_that_the_trainer_was_told(
    options: dict[str, Any], wanted: float
) -> None:
    class Asks(pl.Callback):
        def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            self.answer = planned_batches(trainer)
            trainer.should_stop = True

        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            trainer.should_stop = True

    asks = Asks()
    trainer(asks, **options).fit(Classifier(), loader())
    assert asks.answer == wanted


def timed_by_another_clock(callback: pl.Callback) -> list[float]:
    """The seconds that each of its hooks takes from now on."""
    seconds: list[float] = []
    for name in (name for name in dir(pl.Callback) if name.startswith("on_train")):
        hook = getattr(callback, name)

        def timed(*arguments: Any, hook: Any = hook) -> None:
            start = time.monotonic()
            hook(*arguments)
            seconds.append(time.monotonic() - start)

        setattr(callback, name, timed)
    return seconds


class Lasts(pl.Callback):
    """Has steps of a few milliseconds, and ends the fit in time."""

    begun = 0.0

    def on_train_start(self, *_: Any) -> None:
        self.begun = time.monotonic()

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        time.sleep(0.005)
        trainer.should_stop = time.monotonic() - self.begun > 12


@pytest.mark.clock
@pytest.mark.parametrize("make", [spectrum, difference])
def test_a_fit_of_seconds_takes_no_longer_than_allowed_by_another_clock(
    make: Callable[..., Any],
) -> None:
    callback = make(max_overhead=0.02, num_samples=16, every_n_train_steps=10)
    seconds, lasts = timed_by_another_clock(callback), Lasts()
    trainer(lasts, callback, max_epochs=10_000).fit(Classifier(), loader())
    share = sum(seconds) / (time.monotonic() - lasts.begun - sum(seconds))
    # half as much again, for costs that nobody foresees on a busy machine
    assert share < 0.03
    assert callback.reports[-1].overhead == pytest.approx(share, rel=0.3)
    assert sum(report.num_skipped for report in callback.reports) > 0
