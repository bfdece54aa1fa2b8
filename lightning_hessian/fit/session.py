"""One fit as far as measuring is concerned: its loss, its processes, its signals and clocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn, TrainerStatus

from lightning_hessian.errors import RestorationError, UntakenBatchError, without_numbers
from lightning_hessian.fit.averages import MODULE_HOLDS_AVERAGE
from lightning_hessian.fit.clocks import stopped_clocks
from lightning_hessian.fit.fingerprint import Fingerprint, fingerprint
from lightning_hessian.fit.fit_loss import FitLoss
from lightning_hessian.fit.growth import measure_until_precise
from lightning_hessian.fit.interruptions import Interruptions
from lightning_hessian.fit.pace import Event
from lightning_hessian.fit.progress import Progress
from lightning_hessian.fit.standing import Standing
from lightning_hessian.fit.untouched import Untouched
from lightning_hessian.loss import measure_on_first
from lightning_hessian.options import LossSetup
from lightning_hessian.processes import Processes, any_process, on_all_or_none
from lightning_hessian.records import Note, Report, Weights
from lightning_hessian.sample_losses import NOT_THE_STEPS
from lightning_hessian.sandbox import global_generator_state
from lightning_hessian.studies import Study

R = TypeVar("R", bound=Report)


class Session:
    """Keeps what stays the same during a fit, and measures in it without leaving a trace.

    Answers what a :class:`~lightning_hessian.fit.pace.Pace` asks. Weights are known by their
    fingerprint on the first process, which is what checkpoints hold; that on this process is kept
    beside it, as its tensors may differ. ``measured_at`` and ``measured_epoch`` are of the weights
    measured last in a fit that is resumed; ``num_samples`` are those that a plan chose; a fit that
    analyses checkpoints does not train.
    """

    def __init__(
        self,
        setup: LossSetup,
        trainer: Trainer,
        module: LightningModule,
        *,
        name: str,
        measured_at: Fingerprint | None = None,
        measured_epoch: int | None = None,
        num_samples: int | None = None,
        trains: bool = True,
    ) -> None:
        self.measured_at = measured_at
        self.measured_epoch = measured_epoch
        self.is_over = False
        self._has_ended = False
        self._gave_up_at: Standing | None = None
        self._refusal = ""
        self._own: Fingerprint | None = None
        self._present: tuple[Fingerprint, Fingerprint] | None = None
        self._trainer = trainer
        self._module = module
        self._mode = setup.mode
        self._is_averaged = setup.loss.weights == "averaged"
        self._interruptions = Interruptions()
        self._loss = FitLoss(
            setup,
            trainer,
            module,
            poll=self._interruptions.poll,
            num_samples=num_samples,
            trains=trains,
        )
        self._progress = Progress(trainer, name)
        self._is_busy = False
        self._put_back: Callable[[], None] | None = None
        self._loss.remember_flags()

    @property
    def processes(self) -> Processes:
        """Those that share the fit."""
        return self._loss.processes

    @property
    def has_given_up(self) -> bool:
        """Whether a measurement was refused, and nothing has changed since that it may hang on."""
        at = self._gave_up_at
        return at is not None and at == Standing.of(self._trainer, self._module)

    def give_up(self, reason: str) -> bool:
        """Measure no more, until training has begun or the module has changed.

        Returns whether it is for the same reason as before, numbers aside, which need not be told
        again.
        """
        text = without_numbers(reason)
        is_known, self._refusal = text == self._refusal, text
        self._gave_up_at = Standing.of(self._trainer, self._module)
        return is_known

    @property
    def notes(self) -> tuple[Note, ...]:
        """What to say of the loss in every report."""
        return self._loss.notes

    def see(self, batch: Any) -> None:
        """Training takes a batch, which a sample of a stream may want."""
        self._loss.sample.see(batch)

    def end_training(self) -> None:
        """No more batches come."""
        self._has_ended = True
        self._loss.sample.close()

    def weights(self) -> tuple[Weights, tuple[Note, ...]]:
        """Which weights a report of this moment is of, and what to say of that."""
        if self._is_averaged:
            return "averaged", ()
        # averaging callbacks exchange the module's own weights when training is over
        if self._has_ended and self._loss.averages.are_in_module():
            return "averaged", (MODULE_HOLDS_AVERAGE,)
        return "current", ()

    def weights_in_files(self, *, weights_only: bool) -> Weights:
        """Which weights a checkpoint that is saved now has in its ``state_dict``."""
        return self._loss.averages.in_files(weights_only=weights_only)

    def remember_flags(self) -> None:
        """Remember which submodules train, for ``mode="train"``."""
        self._loss.remember_flags()

    def hindrance(self, event: Event) -> str | None:
        """Why nothing can be measured at this moment; asked on all processes."""
        if self._is_busy:
            return "a measurement is running"
        if self.has_given_up:
            return "the measurement was refused before, and would be again"
        if event.moment == "checkpoint" and not self._is_training(event):
            return "the Trainer is not in the middle of its training"
        awaits = self._is_averaged and event.moment not in ("end", "request")
        if awaits and self._loss.averages.are_awaited():
            return "the averaging of weights has not begun"
        is_ready = self._loss.sample.is_ready
        if any_process(self.processes, self._trainer.received_sigterm or not is_ready):
            return "samples have still to come by" if not is_ready else "the run is told to end"
        return None

    def compare_weights(self, event: Event) -> bool:
        """Whether the weights are others than those measured last; asked on all processes.

        At the end of training the epoch counts on: a checkpoint holds it, and a loss may depend on
        it, so that it makes weights new for a checkpoint.
        """
        self._present = None
        with stopped_clocks(self._trainer):
            own = on_all_or_none(self.processes, self._fingerprint)
            where = self.processes.broadcast(own)
        self._present = where, own
        if where != self.measured_at:
            return True
        self._own = own
        return event.moment == "checkpoint" and self.measured_epoch != event.epoch

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Clocks stand still, signals wait, random numbers are put back at the end.

        Also around loggers and figures: a user's logger may draw random numbers. May be nested.
        """
        if self._is_busy:
            yield
            return
        self._put_back = global_generator_state()
        self._is_busy = True
        try:
            with stopped_clocks(self._trainer), self._interruptions.held_back():
                yield
        finally:
            self.settle()

    def settle(self) -> None:
        """Put back what :meth:`undisturbed` has still to put back, at once.

        A fault may keep the block from being left; then it is left when its objects are forgotten,
        in the midst of training.
        """
        if self._put_back is not None:
            self._put_back()
        self._put_back = None
        self._is_busy = False
        self._interruptions.release()

    def measure(
        self,
        study: Study[R],
        allowance: float | None,
        may_grow: Callable[[float, float], bool],
    ) -> R:
        """A report of the study, on as many samples as it takes, the same on all processes.

        ``allowance`` are the sample gradients that it may cost; None for no limit.
        """
        is_trial = bool(self._trainer.fast_dev_run)  # type: ignore[attr-defined]
        known = None if self._present is None or self._is_averaged else self._present[1]
        untouched = Untouched(self._trainer, self._module, known)

        def once() -> R:
            with self._loss.opened() as loss, self._progress as progress:
                max_hvps = study.max_hvps(loss, allowance, is_trial=is_trial)
                measure = partial(
                    study.measure,
                    allowance=allowance,
                    has_products=self._loss.has_products,
                    on_gradient=partial(
                        progress.begin, loss, self._mode, max_hvps, allowance is not None
                    ),
                    on_products=progress.advance,
                    is_trial=is_trial,
                )
                return measure_on_first(loss, self.processes, measure)

        def again_if_mended() -> R:
            try:
                return once()
            except Exception as error:
                if not _is_of_the_step(error) or not self._loss.leave_out():
                    raise
            return once()

        try:
            report = measure_until_precise(
                again_if_mended,
                required=study.required_samples,
                may_grow=may_grow,
                grow=self._loss.grow,
            )
        except RestorationError:
            raise
        except BaseException:
            # a fault may have hit the very step that puts the state back
            try:
                self._loss.close()
            finally:
                untouched.verify()
            raise
        self._loss.close()
        untouched.verify()
        return report

    def take_setup_cost(self) -> float:
        """Sample gradients spent on looking at the loss since this was last asked."""
        cost, self._loss.setup_cost = self._loss.setup_cost, 0.0
        return cost

    def remember_measured(self, epoch: int) -> None:
        """The present weights count as measured from now on."""
        if self._present is not None:
            self.measured_at, self._own = self._present
        else:
            self.measured_at = self._own = None
        self.measured_epoch = epoch

    def forget_measured(self) -> None:
        """Let the same weights be measured again, also after a refusal."""
        self.measured_at = self._gave_up_at = None
        self._refusal = ""

    def holds_measured(self) -> bool:
        """Whether this process's weights and the epoch are those measured last; no collective."""
        is_known = self.measured_at is not None and self._own is not None
        if not is_known or self.measured_epoch != self._trainer.current_epoch:
            return False
        return self._own == self._fingerprint()

    def _fingerprint(self) -> Fingerprint:
        """Of what is measured: the present weights, or their average, whatever these become."""
        average = self._loss.averages.fingerprint() if self._is_averaged else None
        return average or fingerprint(self._trainer, self._module)

    def _is_training(self, event: Event) -> bool:
        """Not in the sanity check, before the first step, after an exception, after the fit."""
        state = self._trainer.state
        in_fit = state.fn == TrainerFn.FITTING and state.status == TrainerStatus.RUNNING
        has_stage = state.stage is not None and not self._trainer.sanity_checking
        return in_fit and has_stage and event.steps.counted > 0


def _is_of_the_step(error: Exception) -> bool:
    """Whether it may be the step's own, for a batch that it does not take."""
    return isinstance(error, UntakenBatchError) or not isinstance(error, NOT_THE_STEPS)
