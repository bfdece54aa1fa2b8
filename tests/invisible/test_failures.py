"""A measurement that fails in its middle changes nothing, says why, and lets training go on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.loggers.logger import DummyLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from lightning_hessian import HessianSpectrum
from lightning_hessian.errors import RestorationError
from lightning_hessian.hvp import ExactProducts
from lightning_hessian.sandbox import StateSnapshot
from tests.helpers.fingerprint import fingerprint
from tests.helpers.fitting import Classifier, loader, trainer
from tests.helpers.hostile import HostileCollate, HostileData, HostileModule
from tests.helpers.recording import Recorder, Run, differences, run, spectrum

MESSAGE = "the disk of the augmentation server is full"
quiet = pytest.mark.filterwarnings("ignore:HessianSpectrum has no numbers")


class Faulty(HostileModule):
    """Breaks in the k-th step inside measurements, after leaving all its traces."""

    countdown = 0  # of the class: no snapshot puts it back

    def __init__(self, fault: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.fault = fault

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        if "log" in vars(self):  # shadowed inside measurements
            Faulty.countdown -= 1
            if Faulty.countdown == 0:
                return self.fault(loss)
        return loss


def broken(loss: Tensor) -> Tensor:
    raise RuntimeError(MESSAGE)


class Uncopyable(dict[str, Any]):
    def __deepcopy__(self, memo: Any) -> Any:
        raise MemoryError("no second batch fits")


class UncopyableCollate(HostileCollate):
    def __call__(self, samples: Any) -> Any:
        return Uncopyable(super().__call__(samples))


class UncopyableData(HostileData):
    def __init__(self) -> None:
        super().__init__()
        self.collate = UncopyableCollate()


Measured = Callable[..., list[Any]]


@pytest.fixture
def reports_of(tmp_path: Path, undisturbed: dict[Any, Run]) -> Measured:
    """The reports of a failing callback, after checking that the run is the one without it."""

    def measure(data: Any = HostileData, **setting: Any) -> list[Any]:
        if data not in undisturbed:
            countdown, Faulty.countdown = Faulty.countdown, 0
            undisturbed[data] = run(tmp_path / "base", module=partial(Faulty, broken), data=data)
            Faulty.countdown = countdown
        # after steps 0, 3, 6 and 8: one that fails, and others after it
        callback = spectrum(on_error="warn", every_n_train_steps=3, every_n_epochs=None)
        setting = {"module": partial(Faulty, broken)} | setting
        assert (
            differences(undisturbed[data], run(tmp_path / "ours", callback, data=data, **setting))
            == []
        )
        return callback.reports

    return measure


@pytest.fixture(scope="module")
def undisturbed() -> dict[Any, Run]:
    """Runs without the callback."""
    return {}


# calls of the step in the first measurement: is it noisy (1, 2), does it mix samples (3, 4), its
# loss in both modes (5, 6), search of the graph (7), self-check in float64 (8 to 44), gradient (45
# to 50), products (51 to 68), other draws (69 to 92); then the next: check (93 to 130), gradient
IN_NOISE, IN_CHECK, IN_GRADIENT, IN_PRODUCTS, LATER = 1, 14, 46, 55, 132


@pytest.mark.sampled
@quiet
@pytest.mark.parametrize("call", [IN_NOISE, IN_CHECK, IN_GRADIENT, IN_PRODUCTS, LATER])
def test_step_that_raises_inside_a_measurement_changes_nothing(
    call: int, reports_of: Measured
) -> None:
    Faulty.countdown = call
    reports = reports_of()
    assert len(reports) == 4
    failures = [report.failure for report in reports if report.failure is not None]
    notes = [note for report in reports for note in report.notes if "the disk" in note]
    # without its self-check a measurement still has its numbers, and says so
    is_needless = call == IN_CHECK
    assert failures == ([] if is_needless else [f"RuntimeError: {MESSAGE}"])
    assert bool(notes) == is_needless
    assert reports[-1].failure is None


@pytest.mark.sampled
@quiet
@pytest.mark.parametrize("call", [IN_NOISE, IN_GRADIENT, IN_PRODUCTS])
def test_loss_that_is_not_a_number_changes_nothing_and_is_named(
    call: int, reports_of: Measured
) -> None:
    Faulty.countdown = call
    reports = reports_of(module=partial(Faulty, lambda loss: loss * torch.nan))
    failures = [report.failure for report in reports if report.failure is not None]
    assert len(failures) == 1
    assert "NonFiniteError" in failures[0]
    assert len(reports) == 4


@pytest.mark.sampled
@quiet
@pytest.mark.parametrize("product", [3, 4, 8])  # the first two are of self-checks
def test_estimator_that_raises_changes_nothing(
    product: int, reports_of: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 0
    original = ExactProducts.matmat

    def matmat(self: ExactProducts, vectors: Tensor) -> Tensor:
        nonlocal count
        count += 1
        if count == product:
            raise torch.OutOfMemoryError("no memory for this block")
        return original(self, vectors)

    monkeypatch.setattr(ExactProducts, "matmat", matmat)
    reports = reports_of()
    failures = [report.failure for report in reports if report.failure is not None]
    assert failures == ["OutOfMemoryError: no memory for this block"]


@quiet
def test_batch_that_cannot_be_copied_changes_nothing(reports_of: Measured) -> None:
    reports = reports_of(data=UncopyableData)
    assert [report.failure for report in reports] == ["MemoryError: no second batch fits"] * 4


def test_failure_is_visible_as_warning_scalar_and_text(tmp_path: Path) -> None:
    Faulty.countdown = 1
    fit = trainer(
        spectrum(on_error="warn"), logger=TensorBoardLogger(str(tmp_path), name="", version="")
    )
    with pytest.warns(UserWarning, match="no numbers at step 0.*the disk of.*Training goes on"):
        fit.fit(Faulty(broken), HostileData())
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    failed = {event.step: event.value for event in events.Scalars("hessian_errors/failed")}
    assert failed == {0: 1.0, 1: 0.0, 2: 0.0, 3: 0.0, 4: 0.0}
    text = events.Tensors("hessian/failure/text_summary")
    assert [event.step for event in text] == [0]
    assert b"the disk of the augmentation server is full" in text[0].tensor_proto.string_val[0]


def test_error_is_raised_when_asked_for_and_the_state_is_put_back() -> None:
    Faulty.countdown = 1
    module = Faulty(broken)
    with pytest.raises(RuntimeError, match="the disk of"):
        trainer(spectrum(), num_sanity_val_steps=0).fit(module, HostileData())
    assert (module.calls, module.outputs, module.training) == (0, [], True)


class Stop(BaseException):
    """Neither an Exception nor a KeyboardInterrupt, for which Lightning sets signal handlers."""


def stop(loss: Tensor) -> Tensor:
    raise Stop


class StopsItself(pl.Callback):
    """Interrupts the fit where the measurement after the second step would."""

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == 2:
            raise Stop


class ArmsTheFault(pl.Callback):
    """Lets the measurement after the second step fail."""

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == 1:
            Faulty.countdown = 3


class LastState(pl.Callback):
    """The module as it is when an exception has ended the fit."""

    def on_exception(self, trainer: Any, pl_module: Any, exception: Any) -> None:
        recorder = Recorder()
        recorder.note(trainer, pl_module, "exception")
        self.state = recorder.records[0][1]


class MeasuresUnderInterrupt(pl.Callback):
    """Measures after the second step, is interrupted, and compares the state."""

    def __init__(self, callback: HessianSpectrum, kind: type[BaseException]) -> None:
        self.callback, self.kind, self.is_done = callback, kind, False

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        if trainer.global_step == 2:
            before = dict(fingerprint(pl_module))
            Faulty.countdown = 6
            with pytest.raises(self.kind):
                self.callback.measure_again(trainer)
            assert dict(fingerprint(pl_module)) == before
            self.is_done = True


@pytest.mark.parametrize("kind", [Stop, KeyboardInterrupt, SystemExit])
def test_interrupt_passes_through_with_the_state_put_back(kind: type[BaseException]) -> None:
    def interrupt(loss: Tensor) -> Tensor:
        raise kind

    ours = spectrum(on_error="warn", every_n_train_steps=None, every_n_epochs=None)
    judge = MeasuresUnderInterrupt(ours, kind)
    trainer(judge, ours).fit(Faulty(interrupt), HostileData())
    assert judge.is_done
    assert [report.global_step for report in ours.reports] == [0, 4]


def test_fit_that_is_interrupted_inside_a_measurement_ends_in_the_state_of_the_last_step() -> None:
    ends = []
    for stoppers in ((StopsItself(),), (ArmsTheFault(), spectrum(every_n_train_steps=2))):
        pl.seed_everything(3, verbose=False)
        last = LastState()
        with pytest.raises(Stop):
            trainer(*stoppers, last, num_sanity_val_steps=0).fit(Faulty(stop), HostileData())
        ends.append(last.state)
    assert ends[0] == ends[1]


class BrokenLogger(DummyLogger):
    """Its disk is full, for our numbers only."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if any(key.startswith("hessian") for key in metrics):
            raise OSError("no space left on device")


def test_logger_that_fails_does_not_end_the_training() -> None:
    callback = spectrum(on_error="warn", every_n_train_steps=None, every_n_epochs=None)
    fit = trainer(callback, logger=BrokenLogger())
    reason = r"could not write its report of step [04]: OSError: no space left on dev.*It is kept"
    with pytest.warns(UserWarning, match=reason) as warned:
        fit.fit(Classifier(), loader())
    ours = [warning for warning in warned if "could not write" in str(warning.message)]
    assert len(ours) == 2
    assert fit.global_step == 4
    assert [report.failure for report in callback.reports] == [None, None]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_state_that_cannot_be_put_back_ends_the_run(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    calls = []
    restore = StateSnapshot.restore

    def broken(self: StateSnapshot) -> None:
        calls.append(1)
        if len(calls) <= 3:  # before the next evaluation, and on leaving, twice
            raise OSError("gone")
        restore(self)

    class BreaksInside(Classifier):
        """In the measurement proper, or in the self-check in float64."""

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            if batch[0].dtype == dtype:
                monkeypatch.setattr(StateSnapshot, "restore", broken)
            return super().training_step(batch, batch_idx)

    with pytest.raises(RestorationError, match=r"could not be put back \(gone\).*last checkpoint"):
        trainer(spectrum(on_error="warn")).fit(BreaksInside(), loader())


@pytest.fixture(autouse=True)
def _no_fault_is_left() -> Iterator[None]:
    yield
    Faulty.countdown = 0
