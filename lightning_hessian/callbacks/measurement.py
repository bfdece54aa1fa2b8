"""What every measuring callback shares over a fit: when, and how its history goes on."""

from __future__ import annotations

import dataclasses
import math
from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from typing_extensions import override

from lightning_hessian.callbacks.budget import OverheadBudget
from lightning_hessian.callbacks.checkpoints import CheckpointReports
from lightning_hessian.callbacks.history import load_history, save_history
from lightning_hessian.callbacks.measuring import Measuring, OnError
from lightning_hessian.callbacks.options import ObjectiveOptions
from lightning_hessian.callbacks.place import planned_batches
from lightning_hessian.callbacks.schedule import Schedule
from lightning_hessian.objective import TrainingLoss
from lightning_hessian.objective.processes import anywhere


class MeasurementCallback(Measuring):
    """Measures the training loss at the start, at due moments and at the end of each fit.

    The history of reports travels in every checkpoint, and with ``at_checkpoints`` each checkpoint
    gets a report of its own weights, inside and beside it.

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
        schedule: When.
        max_overhead: Share of the training's time that the callback may take; None for no limit.
        on_error: ``warn`` or ``raise``.
        settings: All options that a report depends on, in words.
    """

    def __init__(
        self,
        *,
        name: str,
        report_type: type[Any],
        objective: ObjectiveOptions,
        schedule: Schedule,
        max_overhead: float | None,
        on_error: OnError,
        settings: str,
    ) -> None:
        super().__init__(name=name, report_type=report_type, objective=objective, on_error=on_error)
        self._schedule = schedule
        self._budget = OverheadBudget(max_overhead)
        self._is_limited = False
        self._has_looked = False
        self._gradient_seconds: float | None = None
        self._settings = settings
        self._checkpoints: CheckpointReports | None = None
        self._resumed_at: tuple[int, ...] | None = None
        self._latest_step = 0

    @property
    @abstractmethod
    def expected_gradients(self) -> float:
        """About how many gradients over the frozen samples a measurement takes."""

    @property
    @override
    def state_key(self) -> str:
        return self._generate_state_key(name=self._name)

    @override
    def state_dict(self) -> dict[str, Any]:
        with self._budget:
            return save_history(self.reports, self._measured_at, self._settings)

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.reports, self._resumed_at = load_history(state_dict, self._report_type, self._settings)

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if getattr(trainer, "barebones", False):
            rank_zero_warn(
                f"{type(self).__name__} does nothing in `Trainer(barebones=True)`, which has no "
                "loggers and is meant for measuring speed."
            )
            return
        if self._objective is not None:
            rank_zero_warn(
                f"{type(self).__name__} (`name={self._name!r}`) was measuring another fit, which "
                "has not ended: it leaves that one for this one. Give each Trainer a callback of "
                "its own."
            )
        self._end_checkpoints()
        others = (c for c in trainer.callbacks if c is not self)  # type: ignore[attr-defined]
        self._budget.begin([c._budget for c in others if isinstance(c, MeasurementCallback)])
        in_trial = bool(trainer.fast_dev_run)  # type: ignore[attr-defined]
        self._is_limited = self._budget.max_overhead is not None and not in_trial
        self._has_looked, self._gradient_seconds = False, None
        with self._budget:
            # a trial run saves nothing, but for a `last.ckpt` that nobody wanted
            if self._schedule.at_checkpoints and not in_trial:
                self._checkpoints = CheckpointReports(
                    trainer,
                    name=self._name,
                    measure=partial(self._measure_checkpoint, trainer, pl_module),
                    present=partial(self._report_of, trainer, pl_module),
                    attempt=self._try_to_write,
                )
            self.prepare(trainer, pl_module)
            self._latest_step = trainer.global_step
            self._measured_at, self._resumed_at = self._resumed_at, None
            self._measure_if_affordable(trainer, pl_module)

    @override
    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        with self._budget:
            if self._objective is not None:
                self._objective.sample.see(batch)
            if self._checkpoints is not None:
                self._checkpoints.settle()

    @override
    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        with self._budget:
            self._budget.num_batches += 1
            if self._objective is not None:
                # not earlier: the module's own hooks of the batch run after ours, and may set flags
                self._objective.note_flags()
            # a batch of an accumulation moves buffers only
            has_stepped = trainer.global_step != self._latest_step
            self._latest_step = trainer.global_step
            if has_stepped and self._schedule.is_due_after_step(trainer.global_step):
                self._measure_if_affordable(trainer, pl_module)

    @override
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        with self._budget:
            if self._schedule.is_due_after_epoch(trainer.current_epoch):
                self._measure_if_affordable(trainer, pl_module)

    @override
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        with self._budget:
            if self._objective is not None:
                self._objective.sample.close()
            self._measure(trainer, pl_module)
        is_told = self._objective is not None and self._is_limited and not self._has_given_up
        if is_told and self._budget.num_batches:
            rank_zero_info(f"{type(self).__name__} ({self._name}): {self._budget.summary()}")

    @override
    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        # checkpoints stay watched: savers that answer an exception come after us
        self._objective = None
        self._budget.end()

    @override
    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        # not at the end of training, after which checkpoints are saved
        self._end_checkpoints()
        self._objective = None
        self._budget.end()

    def _end_checkpoints(self) -> None:
        if self._checkpoints is not None:
            self._checkpoints.end()
        self._checkpoints = None

    def _measure_checkpoint(self, trainer: Trainer, module: LightningModule, path: str) -> None:
        with self._budget:
            if self.reports and self.reports[-1].epoch != trainer.current_epoch:
                # at the end of training the epoch counts on; the file holds it, a loss may depend
                # on it
                self._measured_at = None
            self._measure(trainer, module, ckpt_path=path)
            report = self._report_of(trainer, module)
            if report is not None and report.ckpt_path is None:  # made earlier, at a due step
                self.reports[-1] = dataclasses.replace(report, ckpt_path=path)

    @override
    def _report_of(self, trainer: Trainer, module: LightningModule) -> Any:
        with self._budget:
            return super()._report_of(trainer, module)

    @override
    def _try_to_write(self, write: Callable[[], None]) -> None:
        with self._budget:
            super()._try_to_write(write)

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

    @property
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

    def _first_says(self, fact: bool) -> bool:
        """What holds on the first process, whose clock all go by."""
        assert self._objective is not None
        processes = self._objective.processes
        return anywhere(processes, processes.rank == 0 and fact)

    @override
    def _keep(self, trainer: Trainer, report: Any) -> None:
        assert self._objective is not None
        self._budget.note_made(trainer.global_step)
        account = (self._budget.share, self._budget.num_skipped())
        overhead, num_skipped = self._objective.processes.broadcast(account)
        super()._keep(
            trainer, dataclasses.replace(report, overhead=overhead, num_skipped=num_skipped)
        )
