"""What every measuring callback shares over a fit: when, and how its history goes on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from typing_extensions import override

from lightning_hessian.callbacks.measuring import OnError
from lightning_hessian.callbacks.spacing import SpacedMeasuring
from lightning_hessian.fit import CheckpointReports, Schedule, load_history, save_history
from lightning_hessian.options import LossOptions


class MeasurementCallback(SpacedMeasuring):
    """Measures the training loss at the end of each fit, at its start and at due moments.

    The history of reports travels in every checkpoint, and with ``at_checkpoints`` each checkpoint
    gets a report of its own weights, inside and beside it.

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
        objective: LossOptions,
        schedule: Schedule,
        max_overhead: float | None,
        on_error: OnError,
        settings: str,
    ) -> None:
        super().__init__(
            name=name,
            report_type=report_type,
            objective=objective,
            max_overhead=max_overhead,
            on_error=on_error,
        )
        self._schedule = schedule
        self._settings = settings
        self._checkpoints: CheckpointReports | None = None
        self._resumed_at: tuple[int, ...] | None = None
        self._latest_step = 0

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
        self._open_account(trainer)
        with self._budget:
            # a trial run saves nothing, but for a `last.ckpt` that nobody wanted
            if self._schedule.at_checkpoints and not trainer.fast_dev_run:  # type: ignore[attr-defined]
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
            if self._schedule.every_n_train_steps is not None:
                self._measure_after_step(trainer, pl_module)

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
        self._tell_account()

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

    def _measure_after_step(self, trainer: Trainer, module: LightningModule) -> None:
        # a batch of an accumulation moves buffers only
        before, self._latest_step = self._latest_step, trainer.global_step
        is_due = self._schedule.is_due_after_step(self._latest_step)
        if is_due and self._latest_step != before:
            self._measure_if_affordable(trainer, module)
