"""Which of the due measurements a fit can afford."""

from __future__ import annotations

import dataclasses
import math
from abc import abstractmethod
from functools import partial
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from typing_extensions import override

from lightning_hessian.callbacks.measuring import Measuring, OnError
from lightning_hessian.fit import OverheadBudget, planned_batches
from lightning_hessian.loss import TrainingLoss
from lightning_hessian.options import LossOptions
from lightning_hessian.processes import any_process


class SpacedMeasuring(Measuring):
    """Leaves out what would take more than a share of the training's time.

    What is due is made only if the callback's own time stays below ``max_overhead`` of the
    training's, with one more measurement in reserve: that of the end of the fit, which is made in
    any case, as are those of checkpoints. The start is due before anything is known of the
    training's pace. It is measured if this and the end cost at most ``max_overhead`` of a gradient
    over every batch that the Trainer is to train on, which is the least that training takes, in
    whatever unit; not if no end is in sight. Then, too, the samples are fetched and the products
    checked, so that what cannot be measured is said at once. The first process's clock decides for
    all. A resumed fit begins a new account; a ``fast_dev_run`` has no limit.

    Args:
        name: Tells two callbacks of one kind apart.
        report_type: Dataclass of a report, whose fields have defaults.
        objective: What the loss is measured on.
        max_overhead: Share of the training's time that the callback may take; None for no limit.
        on_error: ``warn`` or ``raise``.
    """

    def __init__(
        self,
        *,
        name: str,
        report_type: type[Any],
        objective: LossOptions,
        max_overhead: float | None,
        on_error: OnError,
    ) -> None:
        super().__init__(name=name, report_type=report_type, objective=objective, on_error=on_error)
        self._budget = OverheadBudget(max_overhead)
        self._is_limited = False
        self._has_looked = False
        self._gradient_seconds: float | None = None
        self._spent_before = 0.0

    @property
    def max_overhead(self) -> float | None:
        """Share of the training's time that the callback may take; None for no limit."""
        return self._budget.max_overhead

    @property
    @abstractmethod
    def expected_gradients(self) -> float:
        """About how many gradients over the frozen samples a measurement takes."""

    def _open_account(self, trainer: Trainer) -> None:
        """A fit begins."""
        others = (c for c in trainer.callbacks if c is not self)  # type: ignore[attr-defined]
        self._budget.begin([c._budget for c in others if isinstance(c, SpacedMeasuring)])
        in_trial = bool(trainer.fast_dev_run)  # type: ignore[attr-defined]
        self._is_limited = self._budget.max_overhead is not None and not in_trial
        self._has_looked, self._gradient_seconds = False, None

    def _tell_account(self) -> None:
        """A fit ends."""
        is_told = self._objective is not None and self._is_limited and not self._has_given_up
        if is_told and self._budget.num_batches:
            rank_zero_info(f"{type(self).__name__} ({self._name}): {self._budget.summary()}")

    def _measure_if_affordable(self, trainer: Trainer, module: LightningModule) -> None:
        """Measure what is due, unless that would take more of the time than it may."""
        objective = self._objective
        if objective is None or self._is_measuring or self._has_given_up:
            return
        if objective.sample.is_ready:
            self._budget.note_due(trainer.global_step)
        if not self._is_limited:
            self._measure(trainer, module)
        elif not self._has_looked:
            self._measure(trainer, module, admits=partial(self._admits, trainer))
        elif self._first_says(self._budget.allows(self._predicted_seconds)):
            self._measure(trainer, module)

    def _measure(self, trainer: Trainer, module: LightningModule, **options: Any) -> None:
        """Measure, and note what that took."""
        num_reports, spent = len(self.reports), self._budget.spent
        self._spent_before = spent
        self.measure_now(trainer, module, **options)
        if len(self.reports) > num_reports:
            self._has_looked = True
            if self.reports[-1].failure is None:
                self._budget.note_cost(self._budget.spent - spent)

    def _admits(self, trainer: Trainer, loss: TrainingLoss) -> bool:
        """Decide on the first measurement, all being ready for it; called on all processes."""
        self._has_looked = True
        assert self._objective is not None
        is_start = self._budget.num_batches == 0
        if is_start and self._first_says(self._can_pay_for_both_ends(trainer)):
            return True
        if self._objective.has_products:
            before = self._budget.spent
            loss.gradient()
            self._gradient_seconds = self._budget.spent - before
        return not is_start and self._first_says(self._budget.allows(self._predicted_seconds))

    def _can_pay_for_both_ends(self, trainer: Trainer) -> bool:
        """In units of a gradient over a batch of the training: no clock decides on the start."""
        assert self._objective is not None
        price = 2 * self.expected_gradients * self._objective.num_training_batches
        planned = planned_batches(trainer)
        return math.isfinite(planned) and self._budget.can_pay(price, planned)

    def _predicted_seconds(self) -> float:
        """Of a measurement, before one has been made."""
        objective = self._objective
        assert objective is not None
        if not objective.is_known:
            return self._budget.spent  # for an attempt that failed
        if self._gradient_seconds is not None:
            return self.expected_gradients * self._gradient_seconds
        pace = self._budget.trained / max(1, self._budget.num_batches)
        return self.expected_gradients * objective.num_training_batches * pace

    @override
    def may_grow(self, factor: float) -> bool:
        if not self._is_limited:
            return True
        price = self._budget.spent + factor * (self._budget.spent - self._spent_before)
        return self._first_says(self._budget.can_pay(price, self._budget.trained))

    def _first_says(self, fact: bool) -> bool:
        """What holds on the first process, whose clock all go by."""
        assert self._objective is not None
        processes = self._objective.processes
        if processes.size == 1:
            return fact
        return any_process(processes, processes.rank == 0 and fact)

    @override
    def _keep(self, trainer: Trainer, report: Any) -> None:
        assert self._objective is not None
        self._budget.note_made(trainer.global_step)
        account = (self._budget.share, self._budget.num_skipped())
        overhead, num_skipped = self._objective.processes.broadcast(account)
        super()._keep(
            trainer, dataclasses.replace(report, overhead=overhead, num_skipped=num_skipped)
        )
