"""When to measure, and for how much: the one place that decides, every answer with its reason."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from lightning_hessian.fit.length import FitLength
from lightning_hessian.fit.plan import ASSUMED, GROWTH, Buyer, Plan, make_plan
from lightning_hessian.fit.schedule import Schedule
from lightning_hessian.fit.steps import Steps

LOGGER = logging.getLogger(__name__)

Moment = Literal["start", "step", "epoch", "checkpoint", "end", "request"]
"""What happens in a fit: it begins, a batch or an epoch ends, a checkpoint is about to be saved, it
ends; or somebody asks."""

DUE: dict[Moment, str] = {
    "start": "the fit begins",
    "step": "a step is due",
    "epoch": "`every_n_epochs` is due",
    "checkpoint": "a checkpoint is about to be saved",
    "end": "the fit ends",
    "request": "it was asked for",
}


@dataclass(frozen=True, slots=True)
class Event:
    """Something at which a measurement may be due.

    Attributes:
        moment: What happens.
        steps: That lie behind the weights.
        epoch: ``trainer.current_epoch``.
    """

    moment: Moment
    steps: Steps
    epoch: int


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether to measure now, and why or why not.

    Attributes:
        measure: Whether to measure.
        why: The reason, in words.
        allowance: Sample gradients that the report may cost; None for no limit.
    """

    measure: bool
    why: str
    allowance: float | None = None


class Situation(Protocol):
    """What a pace asks of a fit; each question is asked on all processes at the same time."""

    def hindrance(self, event: Event) -> str | None:
        """Why nothing can be measured at this moment, whatever is due; None if it can."""
        ...

    def compare_weights(self, event: Event) -> bool:
        """Whether the weights are others than those measured last."""
        ...


class Pace:
    """Decides on each event of a fit whether the training loss is measured, and for how much.

    The unit is a sample gradient, a forward and a backward pass of one sample: training spends one
    for each sample that it takes, a report what its passes over its samples come to. Both are
    counted, never timed, from sizes alone: so every run, and every process of it, measures at the
    same steps, on the same samples, with as many products.

    With a limit, a plan is made when the fit begins (:func:`make_plan`). What is left of its budget
    is shared by the points still to come; the end of the fit gets the rest. Where the training may
    stop early or has no end in sight, a point is made when what was trained so far has earned it,
    each after at least 1.3 times the batches of the one before. A resumed fit goes on with what the
    reports before have left.

    Args:
        schedule: What the user wants to be due.
        max_overhead: Share of the training's sample gradients; None for no limit.
        buyer: The study, asked for prices.
    """

    def __init__(self, schedule: Schedule, max_overhead: float | None, buyer: Buyer) -> None:
        is_number = isinstance(max_overhead, int | float) and not isinstance(max_overhead, bool)
        if max_overhead is not None and not (is_number and 0 < max_overhead < 1):
            raise ValueError(
                "`max_overhead` must be a number between 0 and 1, the share of the training's work "
                f"that measuring may take, got {max_overhead!r}. Give 0.1 for 10 %, or None for no "
                "limit."
            )
        self.schedule = schedule
        self.max_overhead = max_overhead
        self.plan: Plan | None = None
        self._buyer = buyer
        self._situation: Situation | None = None

    def prepare(
        self,
        length: FitLength,
        wanted: Callable[[int, int | None], int],
        *,
        spent: float = 0.0,
        num_made: int = 0,
        has_limit: bool = True,
    ) -> Plan | None:
        """Plan a fit that begins, or goes on after so many reports at such a price.

        Without a limit, as in a trial run and in the analysis of checkpoints, nothing is planned.
        """
        self._length = length
        self.plan = (
            make_plan(length, self.max_overhead, self.schedule, self._buyer, wanted)
            if has_limit and self.max_overhead is not None
            else None
        )
        self.spent, self.num_made = spent, num_made
        self._batches = length.num_done
        self._measured_after = -1
        self._num_checkpoints = 0
        self._num_skipped = self._num_left_out = 0
        return self.plan

    def begin(self, situation: Situation, steps: Steps) -> None:
        """The fit begins."""
        self._situation = situation
        self._latest_step = steps.counted
        self._next_place = self._batches

    def end(self) -> None:
        """The fit is over."""
        self._situation = None

    def count_batch(self) -> None:
        """Training has taken another batch."""
        if self._situation is not None:
            self._batches += 1

    @property
    def trained(self) -> float:
        """Sample gradients of the training so far."""
        return self._batches * self._length.batch_size

    @property
    def share(self) -> float:
        """What was spent of what was trained so far; ``nan`` before the first batch."""
        return self.spent / self.trained if self.trained else math.nan

    def decide(self, event: Event) -> Decision:
        """Whether to measure now; each process comes to the same answer by itself."""
        decision = self._decide(event)
        if LOGGER.isEnabledFor(logging.DEBUG):
            answer = "measure" if decision.measure else "leave out"
            LOGGER.debug("%s: %s, as %s", event, answer, decision.why)
        return decision

    def account(self, cost: float) -> tuple[float, int]:
        """A report was made at a price: the share so far, and what was left out before it."""
        self.spent += cost
        self.num_made += 1
        self._measured_after = self._batches
        skipped, self._num_skipped = self._num_skipped, 0
        return self.share, skipped

    def charge(self, cost: float) -> None:
        """What was spent beside reports: on looking whether the loss can be measured."""
        self.spent += cost

    def may_grow(self, allowance: float | None, cost: float, factor: float) -> bool:
        """Whether a report of this cost may be made again on so many times the samples."""
        return allowance is None or (1 + factor) * cost <= allowance

    def promise(self) -> str:
        """What the plan buys, in one sentence."""
        plan, length = self.plan, self._length
        assert plan is not None
        points = plan.num_points
        total = plan.total if plan.has_end else plan.earned(ASSUMED)
        each = total / (points - 1 + plan.end_weight)
        of = "" if length.population is None else f" of {length.population:,}"
        made_with = self._buyer.describe(plan.num_samples, each)
        reports = f"{points:.0f} reports" if points > 1 else "one report at the end"
        reports = reports if plan.has_end else "reports ever further apart"
        # one report is made whatever it costs
        least = self._buyer.least_price(plan.num_samples, is_first=True)
        share = max(plan.total, least) / length.num_samples if plan.has_end else plan.share
        text = (
            f"{reports} on {plan.num_samples:,}{of} samples, {made_with}: "
            f"at most {share:.0%} of this training."
        )
        if plan.has_end and share > 1.01 * plan.share:
            text += f" It is too short for a curve by `max_overhead={plan.share:g}`."
        if plan.stride > 1:
            text += (
                f" Of the moments due only every {plan.stride}th is measured, which is what "
                f"`max_overhead={plan.share:g}` pays for; give None for all of them."
            )
        return text

    def summary(self) -> str:
        """What the measurements came to, and what was left out."""
        text = (
            f"{self.num_made} reports cost {self.spent:,.0f} sample gradients, {self.share:.1%} of "
            f"the training's {self.trained:,.0f}."
        )
        if self.plan is not None and self._num_left_out:
            text += (
                f" {self._num_left_out} due moments were left out for "
                f"`max_overhead={self.max_overhead:g}`: raise it for more, or give None for all."
            )
        return text

    def _decide(self, event: Event) -> Decision:
        situation = self._situation
        if situation is None:
            return Decision(False, "no fit is running")
        if not self._take_due(event):
            return Decision(False, "nothing is due")
        hindrance = situation.hindrance(event)
        if hindrance is not None:
            return Decision(False, hindrance)
        allowance = self._allowance(event)
        if allowance is not None and allowance <= 0:
            self._num_skipped += 1
            self._num_left_out += 1
            return Decision(False, f"it would take more than `max_overhead={self.max_overhead}`")
        if not situation.compare_weights(event):
            return Decision(False, "these weights were measured last")
        return Decision(True, DUE[event.moment], allowance)

    def _take_due(self, event: Event) -> bool:
        stride = 1 if self.plan is None else self.plan.stride
        if event.moment == "epoch":
            return self.schedule.is_due_after_epoch(event.epoch, stride)
        if event.moment == "checkpoint":
            self._num_checkpoints += 1
            return (self._num_checkpoints - 1) % stride == 0
        if event.moment != "step":
            return True
        # a batch of an accumulation moves buffers only
        before, self._latest_step = self._latest_step, event.steps.counted
        if event.steps.counted == before:
            return False
        if self.schedule.is_planned and self.plan is not None:
            return self._has_reached_place()
        return self.schedule.is_due_after_step(before, event.steps.counted, stride)

    def _has_reached_place(self) -> bool:
        """Whether a place of the plan was passed since the one before; all, where it has none."""
        assert self.plan is not None
        if self.plan.places is None:
            return self._batches >= max(GROWTH * self._measured_after, self._measured_after + 1)
        before = self._next_place
        if any(before < place <= self._batches for place in self.plan.places):
            self._next_place = self._batches
            return True
        return False

    def _allowance(self, event: Event) -> float | None:
        """Sample gradients for a report now; none at all where the least one is too dear."""
        plan = self.plan
        if plan is None or event.moment == "request":
            return None
        later = self._buyer.least_price(plan.num_samples)
        least = self._buyer.least_price(plan.num_samples, is_first=self.num_made == 0)
        earned = plan.total if plan.has_end else plan.earned(self.trained)
        if event.moment == "end":
            # a training that was stopped has not earned what was planned
            return max(min(earned, plan.earned(self.trained)) - self.spent, least)
        if event.moment == "start":
            earned = max(earned, self.spent + least)
        left = earned - self.spent
        if not plan.has_end and event.moment != "checkpoint":
            # what is earned later is worth more than half a report now
            least = max(least, self._buyer.fair_price(plan.num_samples))
        if plan.has_end:
            left /= max(plan.num_points - self.num_made - 1, 1) + plan.end_weight
            # the first one finds what the others only follow, if the end can be paid for beside it
            if self.num_made == 0 and plan.num_points > 1 and earned - self.spent >= least + later:
                left = max(left, least)
        return left if left >= least else 0.0
