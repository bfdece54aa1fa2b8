"""Signals that arrive while a measurement runs, and clocks that go on meanwhile."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, Timer
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor

from lightning_hessian import HessianSpectrum, Loss
from lightning_hessian.errors import InterruptedMeasurementError
from lightning_hessian.fit import Interruptions, Recorder
from lightning_hessian.fit.clocks import stopped_clocks
from lightning_hessian.sandbox import StateSnapshot
from tests.helpers.fitting import Classifier, loader, trainer
from tests.helpers.spectrum import spectrum, steps

abandoned = pytest.mark.filterwarnings("ignore:HessianSpectrum abandoned its measurement")


@pytest.fixture(autouse=True)
def _handlers_are_put_back() -> Iterator[None]:
    before = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)}
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


class Signalled(Classifier):
    """Gets a signal in the k-th step inside measurements."""

    def __init__(self, signum: int, countdown: int) -> None:
        super().__init__()
        self.countdown = [countdown]
        self.signum = signum

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        if "log" in vars(self):  # shadowed inside measurements
            COUNTS[self.signum] = COUNTS.get(self.signum, self.countdown[0]) - 1
            if COUNTS[self.signum] == 0:
                os.kill(os.getpid(), self.signum)
        return loss


COUNTS: dict[int, int] = {}


@pytest.fixture(autouse=True)
def _counts_begin_anew() -> None:
    COUNTS.clear()


def measured_after_two_steps(**options: Any) -> HessianSpectrum:
    return spectrum(every_n_epochs=None, every_n_train_steps=2, on_error="warn", **options)


def run(*callbacks: pl.Callback, module: Classifier, **options: Any) -> None:
    torch.manual_seed(4)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(1))
    trainer(*callbacks, **options).fit(module, loader())


@pytest.mark.sampled
@abandoned
@pytest.mark.parametrize("products", ["exact", "finite_difference"])
def test_a_handler_that_saves_finds_the_weights_of_the_run(products: Any, tmp_path: Path) -> None:
    """As a requeueing cluster does, which signals before it takes a machine away."""
    seen: list[dict[str, Tensor]] = []
    path = tmp_path / "hpc_ckpt_1.ckpt"

    class Requeues(pl.Callback):
        def __init__(self, countdown: int) -> None:
            self.countdown = countdown

        def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            signal.signal(signal.SIGUSR1, lambda *_: trainer.save_checkpoint(path))

        def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
            if trainer.global_step == 2:
                COUNTS[signal.SIGUSR1] = self.countdown
                seen.append({k: v.clone() for k, v in pl_module.state_dict().items()})

    for countdown in (1, 3, 4):
        callback = measured_after_two_steps(loss=Loss(products=products, precision=64))
        run(Requeues(countdown), callback, module=Signalled(signal.SIGUSR1, 1000))
        saved = torch.load(path, weights_only=True)
        assert saved["global_step"] == 2
        assert saved["state_dict"].keys() == seen[-1].keys()
        for name, wanted in seen[-1].items():
            assert saved["state_dict"][name].equal(wanted)
            assert saved["state_dict"][name].dtype == torch.float32
        assert steps(callback) == [0, 4]  # the run goes on, and is measured at its end
        path.unlink()


@abandoned
@pytest.mark.parametrize(("countdown", "measured"), [(6, []), (30, [0])])
def test_a_termination_ends_the_run_as_lightning_ends_it(
    countdown: int, measured: list[int]
) -> None:
    # in the first or in the second measurement; what is due later is not begun any more
    callback = spectrum(every_n_train_steps=1, on_error="warn")
    module = Signalled(signal.SIGTERM, countdown)
    with pytest.raises(SIGTERMException):
        run(callback, module=module)
    assert COUNTS[signal.SIGTERM] == 0
    assert steps(callback) == measured
    assert "log" not in vars(module)
    assert module.training


@pytest.mark.filterwarnings("ignore:.*Detected KeyboardInterrupt.*")
@abandoned
def test_control_c_ends_the_run_with_the_state_put_back() -> None:
    callback = measured_after_two_steps()
    module = Signalled(signal.SIGINT, 2)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        run(callback, module=module)
    assert callback.reports == []
    assert "log" not in vars(module)
    assert all(p.grad is None for p in module.parameters())


def test_an_abandoned_measurement_says_which_signal_came() -> None:
    signal.signal(signal.SIGUSR1, lambda *_: None)
    callback = measured_after_two_steps()
    with pytest.warns(UserWarning, match="abandoned its measurement at step 0: SIGUSR1 arrived"):
        run(callback, module=Signalled(signal.SIGUSR1, 2))
    assert steps(callback) == [2, 4]


def test_signals_are_raised_again_once_each_for_the_handlers_that_were_there() -> None:
    got: list[int] = []
    signal.signal(signal.SIGUSR1, lambda signum, frame: got.append(signum))
    handler = signal.getsignal(signal.SIGUSR1)
    interruptions = Interruptions()
    interruptions.poll()
    with interruptions.held_back():
        for _ in range(3):
            signal.raise_signal(signal.SIGUSR1)
        assert got == []
        with pytest.raises(InterruptedMeasurementError, match="SIGUSR1 arrived"):
            interruptions.poll()
    assert got == [signal.SIGUSR1]
    assert signal.getsignal(signal.SIGUSR1) is handler
    interruptions.poll()


def test_handlers_of_a_fit_are_not_kept_beyond_it() -> None:
    # a callback that held them could not be sent to another process, and held a Trainer
    signal.signal(signal.SIGUSR1, lambda *_: None)
    callback = spectrum()
    trainer(callback).fit(Classifier(), loader())
    assert steps(pickle.loads(pickle.dumps(callback))) == [0, 4]


def test_a_second_control_c_is_passed_on_at_once() -> None:
    with pytest.raises(KeyboardInterrupt), Interruptions().held_back():  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("not reached")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.filterwarnings("ignore:.*Detected KeyboardInterrupt.*")
def test_a_second_control_c_does_not_fall_into_the_putting_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Counts(Classifier):
        count = 0

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            self.count += 1
            return super().training_step(batch, batch_idx)

    puts_back = StateSnapshot.restore
    left = []

    def restore(snapshot: StateSnapshot) -> None:
        frame = sys._getframe(1)
        if not left and frame.f_code.co_name == "_put_back" and module.count:
            left.append(True)
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        puts_back(snapshot)

    monkeypatch.setattr(StateSnapshot, "restore", restore)
    module = Counts()
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        run(measured_after_two_steps(), module=module)
    assert left
    assert module.count == 0
    assert "log" not in vars(module)


def test_a_control_c_in_the_putting_back_of_handlers_leaves_none_of_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sets = signal.signal
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    sets(signal.SIGUSR1, lambda *_: None)
    sets(signal.SIGTERM, lambda *_: None)
    wanted = [signal.getsignal(signum) for signum in numbers]

    def set_and_meet(signum: int, handler: Any) -> None:
        sets(signum, handler)
        if handler is signal.default_int_handler:
            signal.raise_signal(signum)

    monkeypatch.setattr(signal, "signal", set_and_meet)
    with pytest.raises(KeyboardInterrupt), Interruptions().held_back():
        pass
    assert [signal.getsignal(signum) for signum in numbers] == wanted


def test_other_threads_measure_without_touching_handlers() -> None:
    done: list[bool] = []

    def measure() -> None:
        with Interruptions().held_back():
            done.append(True)

    thread = threading.Thread(target=measure)
    thread.start()
    thread.join()
    assert done == [True]


def test_rules_by_the_clock_count_training_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Validated(Classifier):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            raise AssertionError("no second of training has gone by")

    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[-1])
    monkeypatch.setattr(Recorder, "publish", lambda *_, **__: clock.append(clock[-1] + 100))
    callback = spectrum(every_n_train_steps=1)
    second = timedelta(seconds=1)
    timer, saver = Timer(second), ModelCheckpoint(tmp_path, train_time_interval=second)
    fit = trainer(
        callback, timer, saver, enable_checkpointing=True, num_sanity_val_steps=0,
        val_check_interval=second, check_val_every_n_epoch=None,
    )  # fmt: skip
    fit.fit(Validated(), loader(), loader())
    assert steps(callback) == [0, 1, 2, 3, 4]
    assert clock[-1] == 500
    assert timer.time_elapsed("train") == 0
    assert list(tmp_path.iterdir()) == []


def test_what_a_users_callback_keeps_under_such_a_name_is_left_alone() -> None:
    class Stopwatch(pl.Callback):
        def __init__(self) -> None:
            self._start_time = {"fit": 12.0}
            self._last_time_checked = 13.0

    stopwatch = Stopwatch()
    with stopped_clocks(trainer(stopwatch)):
        time.sleep(0.01)
    assert vars(stopwatch) == {"_start_time": {"fit": 12.0}, "_last_time_checked": 13.0}
