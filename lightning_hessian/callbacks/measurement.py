"""What every measuring callback shares: when, in which sandbox, and what if it fails."""

from __future__ import annotations

import time
from abc import abstractmethod
from functools import partial
from typing import Any, Literal

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn, TrainerStatus
from lightning.pytorch.utilities import rank_zero_warn
from typing_extensions import override

from lightning_hessian.callbacks.fit_objective import FitObjective
from lightning_hessian.callbacks.options import ObjectiveOptions
from lightning_hessian.callbacks.schedule import Schedule
from lightning_hessian.callbacks.together import measure_together, place
from lightning_hessian.errors import RefusedError, RestorationError
from lightning_hessian.objective import Conductor, TrainingLoss
from lightning_hessian.objective.generators import global_generator_state
from lightning_hessian.objective.processes import Processes, agreed

OnError = Literal["warn", "raise"]


class MeasurementCallback(Callback):
    """Measures the training loss at the start, at due moments and at the end of each fit.

    A subclass says what: :meth:`measure` runs inside the sandbox, :meth:`record` and
    :meth:`publish` outside. Nothing of the run changes. A measurement that fails is recorded with
    its reason and training goes on, unless ``on_error="raise"``; after a refusal, which would
    repeat itself, the fit goes on without further attempts.

    Args:
        objective: What the loss is measured on.
        schedule: When.
        on_error: ``warn`` or ``raise``.
    """

    def __init__(
        self, *, objective: ObjectiveOptions, schedule: Schedule, on_error: OnError
    ) -> None:
        super().__init__()
        if on_error not in ("warn", "raise"):
            raise ValueError(f"`on_error` must be 'warn' or 'raise', got {on_error!r}.")
        self._options = objective
        self._schedule = schedule
        self._on_error = on_error
        self._objective: FitObjective | None = None
        self._measured_at: tuple[int, ...] | None = None
        self._is_measuring = False
        self._has_given_up = False

    @abstractmethod
    def measure(self, loss: TrainingLoss | Conductor, trainer: Trainer) -> Any:
        """Measure; called inside the sandbox, on the first of several processes only.

        Args:
            loss: At the present parameters; a conductor of all processes' where there are several.
            trainer: Running the fit; its loggers are dummies here.

        Returns:
            Whatever :meth:`record` takes; is sent to the other processes.
        """

    @abstractmethod
    def record(
        self, trainer: Trainer, measured: Any, seconds: float, notes: tuple[str, ...]
    ) -> None:
        """Keep what was measured; called outside the sandbox.

        Args:
            trainer: Running the fit.
            measured: From :meth:`measure`.
            seconds: Wall time of the measurement.
            notes: From the self-check.
        """

    @abstractmethod
    def record_failure(self, trainer: Trainer, reason: str, seconds: float) -> None:
        """Keep that there are no numbers, and why.

        Args:
            trainer: Running the fit.
            reason: The exception in words.
            seconds: Wall time until it was raised.
        """

    @abstractmethod
    def publish(self, trainer: Trainer) -> None:
        """Write what was recorded last to the loggers; called on the first process only.

        Args:
            trainer: Running the fit.
        """

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if getattr(trainer, "barebones", False):
            rank_zero_warn(
                f"{type(self).__name__} does nothing in `Trainer(barebones=True)`, which has no "
                "loggers and is meant for measuring speed."
            )
            return
        self._objective = FitObjective(self._options, trainer, pl_module)
        self._measured_at = None
        self._has_given_up = False
        self._objective.note_flags()
        self._run(trainer, pl_module)

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
            self._run(trainer, pl_module)

    @override
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._schedule.is_due_after_epoch(trainer.current_epoch):
            self._run(trainer, pl_module)

    @override
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._run(trainer, pl_module)
        self._objective = None

    @override
    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        # savers also run in learning-rate finders (step 0), after exceptions and after the fit
        in_fit = (
            trainer.state.fn == TrainerFn.FITTING and trainer.state.status == TrainerStatus.RUNNING
        )
        has_stage = trainer.state.stage is not None and not trainer.sanity_checking
        if (
            self._schedule.at_checkpoints
            and in_fit
            and has_stage
            and trainer.global_step > 0
            and not trainer.received_sigterm
        ):
            self._run(trainer, pl_module)

    def _run(self, trainer: Trainer, module: LightningModule) -> None:
        if self._objective is None or self._is_measuring or self._has_given_up:
            return
        self._is_measuring = True
        # loggers and figures run outside the sandbox, and a user's logger may draw random numbers
        put_back = global_generator_state()
        try:
            if self._has_recorded(self._objective, trainer, module):
                self._publish(trainer, self._objective.processes)
        finally:
            put_back()
            self._is_measuring = False

    def _has_recorded(
        self, objective: FitObjective, trainer: Trainer, module: LightningModule
    ) -> bool:
        """Measure and record, unless these weights have been measured already."""
        start = time.perf_counter()
        processes = objective.processes
        try:
            where = place(trainer, module, processes)
            if where == self._measured_at:
                return False
            self._measured_at = where
            found = measure_together(objective, partial(self.measure, trainer=trainer))
            agreed(processes, lambda: self.record(trainer, found.thing, found.seconds, found.notes))
        except RestorationError:
            raise
        except Exception as error:
            if self._on_error == "raise":
                raise
            self._has_given_up = isinstance(error, RefusedError)
            reason = f"{type(error).__name__}: {error}"
            seconds = processes.broadcast(time.perf_counter() - start)
            agreed(processes, lambda: self.record_failure(trainer, reason, seconds))
            future = (
                "not be tried again in this fit"
                if self._has_given_up
                else "be tried again when next due"
            )
            rank_zero_warn(
                f"{type(self).__name__} has no numbers at step {trainer.global_step}. {reason} "
                f"Training goes on unchanged. It will {future}."
            )
        return True

    def _publish(self, trainer: Trainer, processes: Processes) -> None:
        try:
            agreed(processes, lambda: self.publish(trainer) if processes.rank == 0 else None)
        except Exception as error:
            if self._on_error == "raise":
                raise
            rank_zero_warn(
                f"{type(self).__name__} could not write its report of step {trainer.global_step}: "
                f"{type(error).__name__}: {error}. It is kept in `reports`; training goes on."
            )
