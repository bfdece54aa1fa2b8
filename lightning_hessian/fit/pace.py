"""When to measure: the one place that decides, every answer with its reason."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from lightning_hessian.fit.budget import OverheadBudget
from lightning_hessian.fit.schedule import Schedule

LOGGER = logging.getLogger(__name__)

Moment = Literal["start", "step", "epoch", "checkpoint", "end", "request"]
"""What happens in a fit: it begins, a batch or an epoch ends, a checkpoint is about to be saved, it
ends; or somebody asks."""

DUE: dict[Moment, str] = {
    "start": "the fit begins",
    "step": "`every_n_train_steps` is due",
    "epoch": "`every_n_epochs` is due",
    "checkpoint": "a checkpoint is about to be saved",
    "end": "the fit ends",
    "request": "it was asked for",
}
SPACED: frozenset[Moment] = frozenset({"start", "step", "epoch"})
"""What is left out where it would cost too much; the others are made in any case."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something at which a measurement may be due.

    Attributes:
        moment: What happens.
        global_step: ``trainer.global_step``.
        epoch: ``trainer.current_epoch``.
    """

    moment: Moment
    global_step: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether to measure now, and why or why not."""

    measure: bool
    why: str


class Situation(Protocol):
    """What a pace asks of a fit; each question is asked on all processes at the same time."""

    @property
    def is_known(self) -> bool:
        """Whether :meth:`look` has succeeded."""
        ...

    @property
    def num_training_batches(self) -> float:
        """How many batches of the training are as large as the samples; known after a look."""
        ...

    def hindrance(self, event: Event) -> str | None:
        """Why nothing can be measured at this moment, whatever is due; None if it can."""
        ...

    def compare_weights(self, event: Event) -> bool:
        """Whether the weights are others than those measured last."""
        ...

    def look(self) -> None:
        """Fetch the samples and choose the products; raises what is wrong with them."""
        ...

    def time_gradient(self, clock: Callable[[], float]) -> float | None:
        """What a gradient over the samples takes; None where the loss has none."""
        ...

    def batches_to_come(self) -> float:
        """How many batches are still to be trained on; infinity without an end in sight."""
        ...

    def first_says(self, fact: bool) -> bool:
        """What holds on the first process, whose clock all go by."""
        ...


class Pace:
    """Decides on each event of a fit whether the training loss is measured.

    Due are the start and the end of a fit, and what the schedule says. All but the end and
    checkpoints is made only if the callback's own time stays below ``max_overhead`` of the
    training's, with one more measurement in reserve: that of the end. The start is due before
    anything is known of the training's pace: it is measured if this and the end cost at most
    ``max_overhead`` of a gradient over every batch that the Trainer is to train on, which is the
    least that training takes, in whatever unit; not if no end is in sight. Then, too, the samples
    are fetched and the products chosen, so that what cannot be measured is said at once. The first
    process's clock decides for all. A resumed fit begins a new account; a trial run has no limit.
    ``expected_gradients`` is about how many gradients over the samples a measurement takes.
    """

    def __init__(
        self, schedule: Schedule, max_overhead: float | None, expected_gradients: float
    ) -> None:
        self.schedule = schedule
        self.budget = OverheadBudget(max_overhead)
        self._expected_gradients = expected_gradients
        self._situation: Situation | None = None
        self._is_limited = False
        self._has_looked = False
        self._gradient_seconds: float | None = None
        self._spent_before = 0.0
        self._latest_step = 0

    def begin(
        self,
        situation: Situation,
        global_step: int,
        *,
        peers: Sequence[OverheadBudget] = (),
        has_limit: bool = True,
    ) -> None:
        """A fit begins; ``peers`` are the accounts of the other callbacks in it.

        Without a limit, as in a trial run and in the analysis of checkpoints, nothing is left out.
        """
        self.budget.begin(peers)
        self._situation = situation
        self._is_limited = self.budget.max_overhead is not None and has_limit
        self._has_looked, self._gradient_seconds = False, None
        self._latest_step = global_step

    def end(self) -> None:
        """The fit is over."""
        self._situation = None
        self.budget.end()

    def summary(self) -> str | None:
        """What the fit was spent on, where there was a limit to tell of."""
        is_told = self._situation is not None and self._is_limited and self.budget.num_batches
        return self.budget.summary() if is_told else None

    def decide(self, event: Event) -> Decision:
        """Whether to measure now; all processes ask and get the same answer.

        What is wrong with the samples or the products is raised when they are first looked at.
        """
        reason = self._reason_not_to_measure(event)
        decision = Decision(reason is None, reason or DUE[event.moment])
        if LOGGER.isEnabledFor(logging.DEBUG):
            answer = "measure" if decision.measure else "leave out"
            LOGGER.debug("%s: %s, as %s", event, answer, decision.why)
        return decision

    def account(self, event: Event) -> tuple[float, int]:
        """A report was made: the share of the time so far, and what was left out before it."""
        self._has_looked = True
        self.budget.count_made(event.global_step)
        return self.budget.share, self.budget.count_skipped()

    def end_measurement(self, *, has_numbers: bool) -> None:
        """A report is recorded and written; one of a failure may have ended early."""
        if has_numbers:
            self.budget.remember_cost(self.budget.spent - self._spent_before)

    def may_grow(self, factor: float) -> bool:
        """Whether the measurement at hand may be made again on so many times the samples."""
        if not self._is_limited or self._situation is None:
            return True
        budget = self.budget
        price = budget.spent + factor * (budget.spent - self._spent_before)
        return self._situation.first_says(budget.can_pay(price, budget.trained))

    def _reason_not_to_measure(self, event: Event) -> str | None:
        situation = self._situation
        if situation is None:
            return "no fit is running"
        if not self._take_due(event):
            return "nothing is due"
        hindrance = situation.hindrance(event)
        if hindrance is not None:
            return hindrance
        self._spent_before = self.budget.spent
        is_spaced = event.moment in SPACED
        if is_spaced:
            self.budget.count_due(event.global_step)
        is_limited = is_spaced and self._is_limited
        is_first = not self._has_looked
        too_dear = f"it would take more than `max_overhead={self.budget.max_overhead}`"
        # asked before all weights are read, which takes its time at every step that is due
        if is_limited and not is_first and not self._is_affordable(situation):
            return too_dear
        if not situation.compare_weights(event):
            return "these weights were measured last"
        if is_limited and is_first and not self._look_and_decide(situation):
            return too_dear
        return None

    def _take_due(self, event: Event) -> bool:
        if event.moment == "epoch":
            return self.schedule.is_due_after_epoch(event.epoch)
        if event.moment != "step":
            return True
        # a batch of an accumulation moves buffers only
        before, self._latest_step = self._latest_step, event.global_step
        has_moved = event.global_step != before
        return has_moved and self.schedule.is_due_after_step(event.global_step)

    def _look_and_decide(self, situation: Situation) -> bool:
        """Look at the samples, and foresee what is not known from earlier measurements."""
        situation.look()
        self._has_looked = True
        is_start = self.budget.num_batches == 0
        if is_start and situation.first_says(self._can_pay_for_both_ends(situation)):
            return True
        self._gradient_seconds = situation.time_gradient(lambda: self.budget.spent)
        return not is_start and self._is_affordable(situation)

    def _is_affordable(self, situation: Situation) -> bool:
        return situation.first_says(self.budget.allows(lambda: self._foreseen_seconds(situation)))

    def _can_pay_for_both_ends(self, situation: Situation) -> bool:
        """In units of a gradient over a batch of the training: no clock decides on the start."""
        price = 2 * self._expected_gradients * situation.num_training_batches
        planned = situation.batches_to_come()
        return math.isfinite(planned) and self.budget.can_pay(price, planned)

    def _foreseen_seconds(self, situation: Situation) -> float:
        """Of a measurement, before one has been made."""
        if not situation.is_known:
            return self.budget.spent  # for an attempt that failed
        if self._gradient_seconds is not None:
            return self._expected_gradients * self._gradient_seconds
        pace = self.budget.trained / max(1, self.budget.num_batches)
        return self._expected_gradients * situation.num_training_batches * pace
