"""What every measuring callback shares: when, in which sandbox, and what if it fails."""

from __future__ import annotations

import dataclasses
import time
from abc import abstractmethod
from functools import partial
from typing import Any, Literal

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn, TrainerStatus
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn
from typing_extensions import override

from lightning_hessian.callbacks.checkpoints import CheckpointWatch, Sidecars
from lightning_hessian.callbacks.clocks import stopped_clocks
from lightning_hessian.callbacks.fit_objective import FitObjective
from lightning_hessian.callbacks.history import load_history, save_history
from lightning_hessian.callbacks.host import HostCallback
from lightning_hessian.callbacks.interruptions import Interruptions
from lightning_hessian.callbacks.options import ObjectiveOptions
from lightning_hessian.callbacks.place import place
from lightning_hessian.callbacks.schedule import Schedule
from lightning_hessian.errors import (
    InterruptedMeasurementError,
    RefusedError,
    RestorationError,
)
from lightning_hessian.objective import Conductor, TrainingLoss, conduct
from lightning_hessian.objective.generators import global_generator_state
from lightning_hessian.objective.processes import agreed, anywhere
from lightning_hessian.writers.sidecar import write_sidecar

OnError = Literal["warn", "raise"]


class MeasurementCallback(HostCallback):
    """Measures the training loss at the start, at due moments and at the end of each fit.

    A subclass says what: :meth:`measure` runs inside the sandbox, :meth:`publish` outside. Nothing
    of the run changes. A measurement that fails is recorded with its reason and training goes on,
    unless ``on_error="raise"``; after a refusal, which would repeat itself, the fit goes on without
    further attempts. The history of reports travels in every checkpoint, and with
    ``at_checkpoints`` each checkpoint gets a report of its own weights, inside and beside it.

    Args:
        name: Tells two callbacks of one kind apart.
        report_type: Dataclass of a report, whose fields have defaults.
        objective: What the loss is measured on.
        schedule: When.
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
        on_error: OnError,
        settings: str,
    ) -> None:
        super().__init__()
        if on_error not in ("warn", "raise"):
            raise ValueError(f"`on_error` must be 'warn' or 'raise', got {on_error!r}.")
        if not isinstance(name, str) or not name or name.strip("/") != name:
            raise ValueError(
                "`name` must be a text that does not begin or end with a slash, such as "
                f"'hessian', got {name!r}."
            )
        self.reports: list[Any] = []
        self._name = name
        self._report_type = report_type
        self._options = objective
        self._schedule = schedule
        self._on_error = on_error
        self._settings = settings
        self._objective: FitObjective | None = None
        self._watch: CheckpointWatch | None = None
        self._sidecars: Sidecars | None = None
        self._interruptions = Interruptions()
        self._measured_at: tuple[int, ...] | None = None
        self._resumed_at: tuple[int, ...] | None = None
        self._is_measuring = False
        self._has_given_up = False

    @abstractmethod
    def measure(self, loss: TrainingLoss | Conductor, trainer: Trainer) -> Any:
        """Measure; called inside the sandbox, on the first process only.

        Args:
            loss: At the present parameters; one that several processes compute, where there are.
            trainer: Running the fit; its loggers are dummies here.

        Returns:
            A report of the numbers; the circumstances are filled in by the caller.
        """

    @abstractmethod
    def publish(self, trainer: Trainer, report: Any) -> None:
        """Write a report to the loggers; called outside the sandbox, on the first process only.

        Args:
            trainer: Running the fit.
            report: The latest.
        """

    def prepare(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin a fit, without measuring.

        Args:
            trainer: Running the fit.
            pl_module: Attached to it.
        """
        self._objective = FitObjective(
            self._options, trainer, pl_module, poll=self._interruptions.poll
        )
        self._measured_at, self._resumed_at = self._resumed_at, None
        self._has_given_up = False
        self._objective.note_flags()

    def measure_now(
        self, trainer: Trainer, pl_module: LightningModule, *, ckpt_path: str | None = None
    ) -> None:
        """Measure, record and publish, unless these weights have been measured last.

        Args:
            trainer: Running a fit that :meth:`prepare` was called for.
            pl_module: Attached to it.
            ckpt_path: Of the checkpoint that holds these weights.
        """
        if self._objective is None or self._is_measuring or self._has_given_up:
            return
        processes = self._objective.processes
        if anywhere(processes, trainer.received_sigterm):
            return
        self._is_measuring = True
        # loggers and figures run outside the sandbox, and a user's logger may draw random numbers
        put_back = global_generator_state()
        try:
            with stopped_clocks(trainer), self._interruptions.held_back():
                if self._has_recorded(self._objective, trainer, pl_module, ckpt_path):
                    self._try_to_write(lambda: agreed(processes, partial(self._publish, trainer)))
        finally:
            put_back()
            self._is_measuring = False

    @property
    @override
    def state_key(self) -> str:
        return self._generate_state_key(name=self._name)

    @override
    def state_dict(self) -> dict[str, Any]:
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
        self._end_watch()
        if self._schedule.at_checkpoints:
            self._sidecars = Sidecars(trainer, self._name)
            self._watch = CheckpointWatch(
                trainer,
                before=lambda path: self._before_save(trainer, pl_module, path),
                after=lambda path: self._after_save(trainer, pl_module, path),
            )
        self.prepare(trainer, pl_module)
        self.measure_now(trainer, pl_module)

    @override
    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._settle_sidecars()

    @override
    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        if self._objective is not None:
            # not earlier: the module's own hooks of the batch run after ours, and may set flags
            self._objective.note_flags()
        if self._schedule.is_due_after_step(trainer.global_step):
            self.measure_now(trainer, pl_module)

    @override
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._schedule.is_due_after_epoch(trainer.current_epoch):
            self.measure_now(trainer, pl_module)

    @override
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.measure_now(trainer, pl_module)

    @override
    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        # the watch stays: savers that answer an exception come after us
        self._objective = None

    @override
    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        # not at the end of training: checkpoints are saved after ours
        self._settle_sidecars()
        self._end_watch()
        self._objective = None

    def _has_recorded(
        self,
        objective: FitObjective,
        trainer: Trainer,
        module: LightningModule,
        ckpt_path: str | None,
    ) -> bool:
        """Measure and record, unless these weights have been measured already."""
        start = time.perf_counter()
        processes = objective.processes
        where: tuple[int, ...] | None = None
        try:
            where = processes.broadcast(agreed(processes, lambda: place(trainer, module)))
            if where == self._measured_at:
                return False
            with objective.opened() as loss:
                report = conduct(loss, processes, partial(self.measure, trainer=trainer))
            report = dataclasses.replace(report, notes=(*report.notes, *objective.notes))
        except RestorationError:
            raise
        except InterruptedMeasurementError as error:
            rank_zero_warn(
                f"{type(self).__name__} abandoned its measurement at step {trainer.global_step}: "
                f"{error}."
            )
            return False
        except Exception as error:
            if self._on_error == "raise":
                raise
            self._has_given_up = isinstance(error, RefusedError)
            report = self._report_type(failure=f"{type(error).__name__}: {error}")
            self._warn_of(report.failure, trainer.global_step)
        self._measured_at = where
        self.reports.append(
            dataclasses.replace(
                report,
                mode=self._options.mode,
                seconds=processes.broadcast(time.perf_counter() - start),
                epoch=trainer.current_epoch,
                global_step=trainer.global_step,
                ckpt_path=ckpt_path,
            )
        )
        return True

    @rank_zero_only
    def _publish(self, trainer: Trainer) -> None:
        self.publish(trainer, self.reports[-1])

    def _warn_of(self, failure: str, step: int) -> None:
        again = "not be tried again in this fit"
        future = again if self._has_given_up else "be tried again when next due"
        rank_zero_warn(
            f"{type(self).__name__} has no numbers at step {step}. {failure} "
            f"Training goes on unchanged. It will {future}."
        )

    def _before_save(self, trainer: Trainer, module: LightningModule, path: str) -> None:
        in_fit = (
            trainer.state.fn == TrainerFn.FITTING and trainer.state.status == TrainerStatus.RUNNING
        )
        has_stage = trainer.state.stage is not None and not trainer.sanity_checking
        if in_fit and has_stage and trainer.global_step > 0:
            self.measure_now(trainer, module, ckpt_path=path)
            self._note_path(trainer, module, path)

    def _note_path(self, trainer: Trainer, module: LightningModule, path: str) -> None:
        """The latest report may have been made of these weights earlier, at a due step."""
        if self._is_of(trainer, module) and self.reports[-1].ckpt_path is None:
            self.reports[-1] = dataclasses.replace(self.reports[-1], ckpt_path=path)

    def _is_of(self, trainer: Trainer, module: LightningModule) -> bool:
        return self._measured_at is not None and self._measured_at == place(trainer, module)

    def _after_save(self, trainer: Trainer, module: LightningModule, path: str) -> None:
        # also of savers that answer an exception, if the last report is of these very weights
        if self._is_of(trainer, module):
            self._try_to_write(lambda: self._write_sidecar(path))

    @rank_zero_only
    def _write_sidecar(self, ckpt_path: str) -> None:
        write_sidecar(self.reports[-1], ckpt_path, name=self._name)
        if self._sidecars is not None:
            self._sidecars.note(ckpt_path)

    @rank_zero_only
    def _settle_sidecars(self) -> None:
        if self._sidecars is not None:
            self._try_to_write(self._sidecars.settle)

    def _end_watch(self) -> None:
        if self._watch is not None:
            self._watch.end()
        self._watch, self._sidecars = None, None

    def _try_to_write(self, write: Any) -> None:
        try:
            write()
        except Exception as error:
            if self._on_error == "raise":
                raise
            step = self.reports[-1].global_step
            rank_zero_warn(
                f"{type(self).__name__} could not write its report of step {step}: "
                f"{type(error).__name__}: {error}. It is kept in `reports`; training goes on."
            )
