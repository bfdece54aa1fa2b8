"""Lightning's hooks, and nothing else: what a measuring callback holds does the work."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any, Generic, Literal, TypeVar

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from typing_extensions import override

from lightning_hessian.callbacks.both_namespaces import HostCallback
from lightning_hessian.callbacks.guard import guarded
from lightning_hessian.errors import (
    InterruptedMeasurementError,
    RefusedError,
    RestorationError,
)
from lightning_hessian.fit import (
    CheckpointReports,
    Event,
    Fingerprint,
    FitLength,
    Moment,
    Pace,
    Recorder,
    Session,
    Steps,
    Stopwatch,
    between_bars,
    note_on_file,
)
from lightning_hessian.options import LossSetup
from lightning_hessian.processes import on_all_or_none
from lightning_hessian.records import Mode, Report, Weights
from lightning_hessian.studies import Study

R = TypeVar("R", bound=Report)
OnError = Literal["warn", "raise"]


@guarded
class MeasuringCallback(HostCallback, Generic[R]):
    """Measures the training loss at due moments of a fit, and leaves the run as it was.

    It holds a study (what is measured), a pace (when), for each fit a session (on what, without
    leaving a trace), and a recorder (what becomes of reports); a subclass is a constructor that
    makes these. A measurement that fails is recorded with its reason and training goes on, unless
    ``on_error="raise"``; after a refusal, which would repeat itself, there are no further attempts
    until training has begun, the module has other parts, or other parameters are trained. The
    history of reports travels in every checkpoint.

    Args:
        setup: What the loss is set up by.
        study: What is measured.
        pace: When.
        recorder: What becomes of reports.
        on_error: ``warn`` or ``raise``.
    """

    def __init__(
        self,
        setup: LossSetup,
        study: Study[R],
        pace: Pace,
        recorder: Recorder[R],
        on_error: OnError,
    ) -> None:
        super().__init__()
        if on_error not in ("warn", "raise"):
            raise ValueError(f"`on_error` must be 'warn' or 'raise', got {on_error!r}.")
        name = recorder.name
        if not isinstance(name, str) or not name or name.strip("/") != name:
            raise ValueError(
                "`name` must be a text that does not begin or end with a slash, such as "
                f"'hessian', got {name!r}."
            )
        self._setup = setup
        self._study = study
        self._pace = pace
        self._recorder = recorder
        self._on_error = on_error
        self._stopwatch = Stopwatch()
        self._session: Session | None = None
        self._resumed_at: Fingerprint | None = None
        self._measured_at: Fingerprint | None = None
        self._state_key = self._generate_state_key(name=name)
        self.is_disabled = False

    @property
    def raises_errors(self) -> bool:
        """Whether errors end the fit."""
        return self._on_error == "raise"

    def settle(self) -> None:
        """Put back what a fault has kept from being put back.

        Raises:
            RestorationError: If that fails too.
        """
        if self._session is None:
            return
        try:
            self._session.settle()
        except Exception as error:
            raise RestorationError(
                f"random generators could not be put back after a measurement ({error}), so the "
                "run would go on with others. Resume it from its last checkpoint."
            ) from error

    def disable(self, error: Exception) -> None:
        """Leave the fit, with the reason as the last report."""
        self._pace.end()
        self._recorder.watch_checkpoints(None)
        self.reports.append(self.report_type(failure=f"{type(error).__name__}: {error}"))

    @property
    def reports(self) -> list[R]:
        """All reports so far, of earlier parts of a resumed fit too."""
        return self._recorder.reports

    @property
    def report_type(self) -> type[R]:
        """The kind of report that is made."""
        return self._recorder.kind

    @property
    def name(self) -> str:
        """First part of all tags, and of the names of files beside checkpoints."""
        return self._recorder.name

    @property
    def mode(self) -> Mode:
        """``eval`` or ``train``."""
        return self._setup.mode

    @property
    def weights(self) -> Weights:
        """``current`` or ``averaged``: which weights are asked for."""
        return self._setup.loss.weights

    @property
    def max_overhead(self) -> float | None:
        """Share of the training's work that the callback may cost; None for no limit."""
        return self._pace.max_overhead

    def table(self, reports: Sequence[R]) -> str:
        """Reports as a table for the terminal, a line for each below a heading."""
        return self._recorder.table(reports)

    @property
    @override
    def state_key(self) -> str:
        return self._state_key

    @override
    def state_dict(self) -> dict[str, Any]:
        with self._stopwatch:
            session = self._session
            where = session.measured_at if session else self._measured_at
            return self._recorder.state(where, self._study.state())

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._resumed_at = self._recorder.log.load(state_dict, self._study.load_state)

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if getattr(trainer, "barebones", False):
            rank_zero_warn(
                f"{type(self).__name__} does nothing in `Trainer(barebones=True)`, which has no "
                "loggers and is meant for measuring speed."
            )
            return
        if self._session is not None and not self._session.is_over:
            rank_zero_warn(
                f"{type(self).__name__} (`name={self.name!r}`) was measuring another fit, which "
                "has not ended: it leaves that one for this one. Give each Trainer a callback of "
                "its own."
            )
        self._recorder.watch_checkpoints(None)
        self._stopwatch.begin()
        self.begin(trainer, pl_module)
        # what is known from before a resume counts until there is something new
        self._try_to_write(partial(self._recorder.offer, trainer, self.reports))
        with self._stopwatch:
            # a trial run saves nothing, but for a `last.ckpt` that nobody wanted
            if self._pace.schedule.at_checkpoints and not trainer.fast_dev_run:  # type: ignore[attr-defined]
                self._recorder.watch_checkpoints(self._checkpoints_of(trainer))
            self._consider("start", trainer)

    @override
    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        with self._stopwatch:
            if self._session is not None:
                self._session.see(batch)
            self._recorder.settle_files()

    @override
    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        with self._stopwatch:
            self._pace.count_batch()
            if self._session is not None:
                # not earlier: the module's own hooks of the batch run after ours, and may set flags
                self._session.remember_flags()
            self._consider("step", trainer)

    @override
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        with self._stopwatch:
            self._consider("epoch", trainer)

    @override
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        with self._stopwatch:
            if self._session is not None:
                self._session.end_training()
            self._consider("end", trainer)
            if self._session is not None:
                self._write(self._session, partial(self._recorder.publish_rest, trainer))
                self._publish_page(self._session, trainer)
        is_told = self._session is not None and not self._session.has_given_up
        if is_told and self._pace.plan is not None:
            self._tell(self._summary(), trainer)

    @override
    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        # checkpoints stay watched: savers that answer an exception come after us
        self._pace.end()
        if self._session is not None:
            self._session.is_over = True

    @override
    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        # not at the end of training, after which checkpoints are saved
        self._recorder.watch_checkpoints(None)
        self._recorder.room.end()
        self._pace.end()
        if self._session is not None:
            self._measured_at, self._session = self._session.measured_at, None

    def begin(self, trainer: Trainer, module: LightningModule, *, trains: bool = True) -> None:
        """Begin a fit, without measuring; of one that takes no step the price has no limit."""
        self._recorder.begin_fit(trainer)
        plan = self._pace.prepare(
            FitLength.of(trainer),
            self._setup.planned_samples,
            spent=self._recorder.log.spent,
            num_made=self._recorder.log.num_made,
            has_limit=trains and not trainer.fast_dev_run,  # type: ignore[attr-defined]
        )
        self._session = Session(
            self._setup,
            trainer,
            module,
            name=type(self).__name__,
            measured_at=self._resumed_at,
            measured_epoch=self.reports[-1].epoch if self.reports else None,
            num_samples=None if plan is None else plan.num_samples,
            trains=trains,
        )
        self._resumed_at = None
        self._pace.begin(self._session, Steps.of(trainer))
        if plan is not None:
            self._tell(self._pace.promise(), trainer)

    def measure_again(self, trainer: Trainer, ckpt_path: str | None = None) -> None:
        """Measure the present weights, also if they were measured last or refused before."""
        if self._session is not None:
            self._session.forget_measured()
            self._consider("request", trainer, ckpt_path)

    def _consider(self, moment: Moment, trainer: Trainer, ckpt_path: str | None = None) -> None:
        """Measure, record and publish, if the pace says so."""
        session = self._session
        if session is None:
            return
        start = time.perf_counter()
        event = Event(moment, Steps.of(trainer), trainer.current_epoch)
        with ExitStack() as quiet:
            report = self._attempt(session, event, quiet)
            if report is None:
                return
            quiet.enter_context(session.undisturbed())
            processes = session.processes
            session.remember_measured(event.epoch)
            seconds = processes.broadcast(time.perf_counter() - start)
            self._pace.charge(session.take_setup_cost())
            overhead, num_skipped = self._pace.account(report.cost)
            report = replace(
                report,
                mode=self.mode,
                epoch=event.epoch,
                global_step=event.steps.global_step,
                logged_step=event.steps.logged_step,
                ckpt_path=ckpt_path,
                seconds=seconds,
                overhead=overhead,
                num_skipped=num_skipped,
            )
            self._recorder.log.add(report)
            self._try_to_write(partial(self._recorder.offer, trainer, self.reports[-1:]))
            for text in self._recorder.news():
                self._tell(text, trainer)
            self._write(session, partial(self._publish, trainer))

    def _attempt(self, session: Session, event: Event, quiet: ExitStack) -> R | None:
        """The report of an event, with numbers or the reason why not; None if none is made."""
        step = event.steps.logged_step
        try:
            decision = self._pace.decide(event)
            if not decision.measure:
                return None
            # from here on, until the report is written, the run is undisturbed
            quiet.enter_context(session.undisturbed())
            may_grow = partial(self._pace.may_grow, decision.allowance)
            report = session.measure(self._study, decision.allowance, may_grow)
            weights, notes = session.weights()
            notes = (*report.notes, *session.notes, *notes)
            return replace(report, weights=weights, notes=notes)
        except RestorationError:
            raise
        except InterruptedMeasurementError as error:
            rank_zero_warn(
                f"{type(self).__name__} abandoned its measurement at step {step}: {error}."
            )
            return None
        except Exception as error:
            if self._on_error == "raise":
                raise
            failure = f"{type(error).__name__}: {error}"
            future = "be tried again when next due"
            if isinstance(error, RefusedError):
                if session.give_up(failure):
                    return None
                future = "not be tried again while the module stays as it is"
            rank_zero_warn(
                f"{type(self).__name__} has no numbers at step {step}. {failure} "
                f"Training goes on unchanged. It will {future}."
            )
            return self.report_type(failure=failure, weights=self.weights)

    def _tell(self, text: str, trainer: Trainer) -> None:
        """A line for the user of a fit that is more than a trial."""
        if not trainer.fast_dev_run:  # type: ignore[attr-defined]
            with between_bars(trainer):
                rank_zero_info(f"{type(self).__name__} ({self.name}): {text}")

    def _summary(self) -> str:
        """What the fit's measurements came to."""
        watch = self._stopwatch
        return (
            f"{self._pace.summary()} Measuring took {watch.spent:.3g} s of the fit's "
            f"{watch.passed:.3g} s."
        )

    def _publish(self, trainer: Trainer) -> None:
        self._study.settle()
        self._recorder.publish(trainer, draws_all=self._pace.plan is None)

    def _publish_page(self, session: Session, trainer: Trainer) -> None:
        """The page of all callbacks, by the last of them, after whose report no other comes."""
        in_fit = [each for each in trainer.callbacks if isinstance(each, MeasuringCallback)]  # type: ignore[attr-defined]
        in_fit = [each for each in in_fit if not each.is_disabled and each._session is not None]
        if in_fit[-1:] == [self]:
            reports = {each.name: each.reports for each in in_fit if each.reports}
            self._write(session, partial(self._recorder.publish_page, trainer, reports))

    def _write(self, session: Session, write: Callable[[], None]) -> None:
        """On all processes or none, without a trace in the run."""
        with session.undisturbed():
            self._try_to_write(lambda: on_all_or_none(session.processes, write))

    def _try_to_write(self, write: Callable[[], None]) -> None:
        """What fails in writing ends no training."""
        with self._stopwatch:
            try:
                write()
            except Exception as error:
                if self._on_error == "raise":
                    raise
                of_step = f" of step {self.reports[-1].step}" if self.reports else ""
                rank_zero_warn(
                    f"{type(self).__name__} could not write its report{of_step}: "
                    f"{type(error).__name__}: {error}. It is kept in `reports`; training goes on."
                )

    def _checkpoints_of(self, trainer: Trainer) -> CheckpointReports:
        """Has every checkpoint of a fit measured before it is saved."""
        return CheckpointReports(
            trainer,
            name=self.name if self.weights == "current" else f"{self.name}.{self.weights}",
            room=self._recorder.room,
            measure=partial(self._measure_checkpoint, trainer),
            present=self._report_of_file,
            attempt=self._try_to_write,
            guard=self._guarded,
        )

    def _guarded(self, call: Callable[[], None]) -> None:
        """What Lightning calls by other ways than hooks is guarded like these."""
        call()

    def _measure_checkpoint(self, trainer: Trainer, path: str) -> None:
        with self._stopwatch:
            self._consider("checkpoint", trainer, path)
            report = self._present_report()
            if report is not None and report.ckpt_path is None:  # made earlier, at a due step
                self.reports[-1] = replace(report, ckpt_path=path)

    def _report_of_file(self, weights_only: bool) -> R | None:
        """The latest report, if it is of a checkpoint just saved, with what that one holds."""
        report = self._present_report()
        if report is None or self._session is None:
            return None
        held = self._session.weights_in_files(weights_only=weights_only)
        return replace(report, notes=(*report.notes, *note_on_file(report.weights, held)))

    def _present_report(self) -> R | None:
        """The latest report, if it is of the present weights and the present epoch."""
        with self._stopwatch:
            is_present = self._session is not None and self._session.holds_measured()
            return self.reports[-1] if is_present else None
