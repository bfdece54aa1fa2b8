"""One measurement in a running fit: in which sandbox, by which processes, and what if it fails."""

from __future__ import annotations

import dataclasses
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn

from lightning_hessian.callbacks.both_namespaces import HostCallback
from lightning_hessian.errors import InterruptedMeasurementError, RefusedError, RestorationError
from lightning_hessian.fit import (
    FitLoss,
    Interruptions,
    fingerprint,
    measure_until_precise,
    stopped_clocks,
)
from lightning_hessian.loss import Conductor, TrainingLoss, measure_on_first
from lightning_hessian.options import LossOptions
from lightning_hessian.processes import any_process, on_all_or_none
from lightning_hessian.records import Mode
from lightning_hessian.sandbox import global_generator_state

OnError = Literal["warn", "raise"]

Admission = Callable[[TrainingLoss], bool]
"""Whether to go on, decided by all processes alike when the loss is ready to be measured."""


def _always(loss: TrainingLoss) -> bool:  # noqa: ARG001
    return True


class Measuring(HostCallback):
    """Measures the training loss when it is told to, records and publishes.

    A subclass says what: :meth:`measure` runs inside the sandbox, :meth:`publish` outside. Nothing
    of the run changes. A measurement that fails is recorded with its reason and training goes on,
    unless ``on_error="raise"``; after a refusal, which would repeat itself, the fit goes on without
    further attempts.

    Args:
        name: Tells two callbacks of one kind apart.
        report_type: Dataclass of a report, whose fields have defaults.
        objective: What the loss is measured on.
        on_error: ``warn`` or ``raise``.
    """

    def __init__(
        self,
        *,
        name: str,
        report_type: type[Any],
        objective: LossOptions,
        on_error: OnError,
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
        self._on_error = on_error
        self._objective: FitLoss | None = None
        self._interruptions = Interruptions()
        # as the first process found it; and this process, whose tensors may differ
        self._measured_at: tuple[int, ...] | None = None
        self._own_place: tuple[int, ...] | None = None
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

    def wanted_samples(self, report: Any) -> int:
        """How many samples a report just made should have been on, asked on all processes."""
        return int(report.num_samples)

    def may_grow(self, factor: float) -> bool:  # noqa: ARG002
        """Whether a report on so many times the samples may be made, asked on all processes."""
        return True

    @abstractmethod
    def publish(self, trainer: Trainer, report: Any) -> None:
        """Write a report to the loggers; called outside the sandbox, on the first process only.

        Args:
            trainer: Running the fit.
            report: The latest.
        """

    @abstractmethod
    def table(self, reports: Sequence[Any]) -> str:
        """Reports as a table for the terminal.

        Args:
            reports: Of this callback's kind.

        Returns:
            A line for each, below a heading.
        """

    @property
    def has_products(self) -> bool:
        """Whether the loss that is measured can be differentiated."""
        return self._objective is not None and self._objective.has_products

    @property
    def report_type(self) -> type[Any]:
        """Dataclass of a report."""
        return self._report_type

    @property
    def name(self) -> str:
        """First part of all tags, and of the names of files beside checkpoints."""
        return self._name

    @property
    def mode(self) -> Mode:
        """``eval`` or ``train``."""
        return self._options.mode

    def prepare(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin a fit, without measuring.

        Args:
            trainer: Running the fit.
            pl_module: Attached to it.
        """
        self._objective = FitLoss(self._options, trainer, pl_module, poll=self._interruptions.poll)
        self._measured_at = self._own_place = None
        self._has_given_up = False
        self._objective.note_flags()

    def forget(self) -> None:
        """Let the next :meth:`measure_now` measure, also the same weights or after a refusal."""
        self._measured_at = None
        self._has_given_up = False

    def measure_now(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        *,
        ckpt_path: str | None = None,
        admits: Admission = _always,
    ) -> None:
        """Measure, record and publish, unless these weights have been measured last.

        Args:
            trainer: Running a fit that :meth:`prepare` was called for.
            pl_module: Attached to it.
            ckpt_path: Of the checkpoint that holds these weights.
            admits: Asked when the samples are fetched and the products chosen; what is wrong with
                them is found out and recorded in any case.
        """
        if self._objective is None or self._is_measuring or self._has_given_up:
            return
        processes = self._objective.processes
        if any_process(processes, trainer.received_sigterm or not self._objective.sample.is_ready):
            return
        # loggers and figures run outside the sandbox, and a user's logger may draw random numbers
        put_back = global_generator_state()
        try:
            self._is_measuring = True
            with stopped_clocks(trainer), self._interruptions.held_back():
                if self._has_recorded(self._objective, trainer, pl_module, ckpt_path, admits):
                    self._try_to_write(
                        lambda: on_all_or_none(processes, partial(self._publish, trainer))
                    )
        finally:
            self._is_measuring = False
            put_back()

    def _has_recorded(
        self,
        objective: FitLoss,
        trainer: Trainer,
        module: LightningModule,
        ckpt_path: str | None,
        admits: Admission,
    ) -> bool:
        """Measure and record, unless these weights have been measured already."""
        start = time.perf_counter()
        processes = objective.processes
        own: tuple[int, ...] | None = None
        where: tuple[int, ...] | None = None
        try:
            own = on_all_or_none(processes, lambda: fingerprint(trainer, module))
            where = processes.broadcast(own)
            if where == self._measured_at:
                self._own_place = own
                return False
            measured = self._measured(objective, trainer, admits)
            if measured is None:
                return False
            report = dataclasses.replace(measured, notes=(*measured.notes, *objective.notes))
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
        self._measured_at, self._own_place = where, own
        seconds = processes.broadcast(time.perf_counter() - start)
        self._keep(trainer, dataclasses.replace(report, seconds=seconds, ckpt_path=ckpt_path))
        return True

    def _measured(self, objective: FitLoss, trainer: Trainer, admits: Admission) -> Any:
        """A report, on as many samples as it takes; None if it is not admitted."""
        questions = [admits]  # asked once

        def measure() -> Any:
            with objective.opened() as loss:
                if questions and not questions.pop()(loss):
                    return None
                return measure_on_first(
                    loss, objective.processes, partial(self.measure, trainer=trainer)
                )

        return measure_until_precise(
            measure, wanted=self.wanted_samples, may_grow=self.may_grow, grow=objective.grow
        )

    def _keep(self, trainer: Trainer, report: Any) -> None:
        """Add to the history a report of where the fit is now."""
        self.reports.append(
            dataclasses.replace(
                report,
                mode=self._options.mode,
                epoch=trainer.current_epoch,
                global_step=trainer.global_step,
            )
        )

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

    def _report_of(self, trainer: Trainer, module: LightningModule) -> Any:
        """The latest report, if it is of the present weights and the present epoch."""
        is_known = self._measured_at is not None and self._own_place is not None
        if not is_known or self.reports[-1].epoch != trainer.current_epoch:
            return None
        return self.reports[-1] if self._own_place == fingerprint(trainer, module) else None

    def _try_to_write(self, write: Callable[[], None]) -> None:
        try:
            write()
        except Exception as error:
            if self._on_error == "raise":
                raise
            of_step = f" of step {self.reports[-1].global_step}" if self.reports else ""
            rank_zero_warn(
                f"{type(self).__name__} could not write its report{of_step}: "
                f"{type(error).__name__}: {error}. It is kept in `reports`; training goes on."
            )
