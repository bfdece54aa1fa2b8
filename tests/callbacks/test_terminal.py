"""What a measurement shows on a terminal, and that it leaves Lightning's bar whole there."""

from __future__ import annotations

import io
import logging
import re
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, seed_everything
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar, TQDMProgressBar
from torch import Tensor

from lightning_hessian import CriticalPoint, HessianSpectrum, Loss, LossDifference
from lightning_hessian.errors import InterruptedMeasurementError
from lightning_hessian.fit.bars import NAME, open_bar
from lightning_hessian.fit.progress import Progress
from tests.helpers.fitting import Classifier, loader, trainer
from tests.helpers.programs import run_on_a_terminal, run_program
from tests.helpers.screen import screen
from tests.helpers.spectrum import spectrum

RICH = find_spec("rich") is not None
BARS = ["TQDMProgressBar", "RichProgressBar"]
FIT = """
import warnings
import lightning.pytorch as pl
from lightning.pytorch.callbacks import RichProgressBar, TQDMProgressBar
from lightning_hessian import HessianSpectrum
from tests.helpers.fitting import Classifier, loader

warnings.filterwarnings("ignore")
options = dict(max_overhead=None, every_n_train_steps=3, verbose=True, num_samples=20)
quiet = dict(logger=False, enable_checkpointing=False, enable_model_summary=False)
callbacks = [{bar}(), {ours}]
trainer = pl.Trainer(accelerator="cpu", max_epochs=2, callbacks=callbacks, **quiet)
trainer.fit(Classifier(), loader(batch_size=4))
"""
OURS = "HessianSpectrum(**options)"


@pytest.mark.slow
@pytest.mark.parametrize("bar", BARS)
def test_on_a_terminal_bars_and_lines_leave_each_other_whole(bar: str) -> None:
    if bar == "RichProgressBar":
        pytest.importorskip("rich")
    written = run_on_a_terminal("-c", FIT.format(bar=bar, ours=OURS), columns=200)
    assert NAME in written
    lines = screen(written, columns=200)
    told = [line for line in lines if line.startswith("HessianSpectrum (hessian): step ")]
    assert len(told) == 7
    # Lightning writes that the fit has stopped into its own bar, and draws this again
    assert 1 <= len([line for line in lines if "Epoch" in line]) <= 2
    assert not any(line.startswith(f"{NAME} ") or "HVP/s" in line for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize("bar", BARS)
def test_where_the_output_is_no_terminal_all_of_ours_are_whole_lines(bar: str) -> None:
    if bar == "RichProgressBar":
        pytest.importorskip("rich")
    ended = run_program("-c", FIT.format(bar=bar, ours=OURS))
    without = run_program("-c", FIT.format(bar=bar, ours="pl.Callback()"))
    assert ended.code == without.code == 0
    assert ended.errors.count("\r") == without.errors.count("\r") == 0
    # those of tqdm are Lightning's, which draws some ten a second and at the end
    assert (bar == "TQDMProgressBar") == ("\r" in without.output)
    assert NAME not in re.sub(r"HessianSpectrum", "", ended.output)
    assert len(re.findall(r"^HessianSpectrum \(hessian\): step \d+: ", ended.errors, re.M)) == 7


class Watches(Callback):
    """Looks at a Rich bar after each batch, as callbacks of a user's may."""

    def __init__(self, bar: Any) -> None:
        self.bar = bar
        self.shown: list[list[str]] = []

    def on_train_batch_end(self, *_: Any) -> None:
        self.shown.append([task.description for task in self.bar.progress.tasks if task.visible])
        # which Lightning finds by its place in the list
        assert self.bar.train_progress_bar.description.startswith("Epoch")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def failing_from(step: int, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measurements from a step on fail, or are abandoned, while their bar is shown."""

    def advance(self: Progress, num_products: int) -> None:
        before(self, num_products)
        if self._trainer.global_step >= step:
            raise error

    before = Progress.advance
    monkeypatch.setattr(Progress, "advance", advance)


@pytest.fixture
def rich_bar() -> Iterator[Any]:
    """Lightning's Rich bar on a terminal that nobody sees."""
    rich = pytest.importorskip("rich")
    before = dict(vars(rich.get_console()))
    yield RichProgressBar(console_kwargs={"force_terminal": True, "file": Terminal()})
    vars(rich.get_console()).update(before)


def test_a_measurement_is_a_task_of_lightnings_rich_bar_while_it_goes_on(rich_bar: Any) -> None:
    during: list[list[str]] = []

    class Looks(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            if not self.training and rich_bar.progress is not None:
                during.append([t.description for t in rich_bar.progress.tasks if t.visible])
            return super().training_step(batch, batch_idx)

    # ours the first, which is before Lightning's bar has begun
    watches = Watches(rich_bar)
    callback = spectrum(every_n_train_steps=2, loss=Loss(products="finite_difference"))
    host = trainer(callback, rich_bar, watches, enable_progress_bar=True, max_epochs=2)
    host.fit(Looks(), loader())
    assert len(callback.reports) > 3
    assert [NAME] in [shown[1:] for shown in during]
    assert all(len(shown) == 1 for shown in watches.shown)


@pytest.mark.filterwarnings("ignore:HessianSpectrum (has no numbers|abandoned)")
@pytest.mark.parametrize("error", [RuntimeError("no"), InterruptedMeasurementError("no")])
def test_a_measurement_that_fails_or_is_abandoned_leaves_a_rich_bar_as_it_was(
    error: Exception, rich_bar: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    watches = Watches(rich_bar)
    failing_from(2, error, monkeypatch)
    callback = spectrum(every_n_train_steps=2, on_error="warn")
    host = trainer(callback, rich_bar, watches, enable_progress_bar=True, max_epochs=2)
    host.fit(Classifier(), loader())
    assert len([report for report in callback.reports if report.failure is None]) == 1
    assert all(len(shown) == 1 for shown in watches.shown)
    assert any(task.description == NAME for task in rich_bar.progress.tasks)


@pytest.mark.filterwarnings("ignore:HessianSpectrum (has no numbers|abandoned)")
@pytest.mark.parametrize("error", [RuntimeError("no"), InterruptedMeasurementError("no")])
def test_a_measurement_that_fails_or_is_abandoned_leaves_bars_of_tqdm_as_they_were(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", Terminal())
    failing_from(2, error, monkeypatch)
    callback = spectrum(every_n_train_steps=2, on_error="warn")
    host = trainer(callback, TQDMProgressBar(), enable_progress_bar=True, max_epochs=2)
    host.fit(Classifier(), loader())
    written = sys.stdout.getvalue()  # type: ignore[attr-defined]
    assert written.count(f"{NAME}: ") > 3
    (line,) = [line for line in screen(written) if line]
    assert line.startswith("Epoch 1: 100%")


def test_no_bar_is_drawn_into_what_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    bars = [TQDMProgressBar(), RichProgressBar()] if RICH else [TQDMProgressBar()]
    for bar in bars:
        trainer(bar, spectrum(), enable_progress_bar=True).fit(Classifier(), loader())
    written = sys.stdout.getvalue() + sys.stderr.getvalue()  # type: ignore[attr-defined]
    assert "Epoch" in written
    assert NAME not in written


@pytest.mark.parametrize("bar", ["rich", "tqdm"])
def test_a_run_with_bars_is_the_run_without_the_callback(
    bar: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", Terminal())
    host = request.getfixturevalue("rich_bar") if bar == "rich" else TQDMProgressBar()
    ends = []
    for callbacks in ([], [spectrum(every_n_train_steps=2, verbose=True)]):
        seed_everything(5)
        module = Classifier()
        fit = trainer(host, *callbacks, enable_progress_bar=True, max_epochs=2)
        fit.fit(module, loader(shuffle=True))
        ends.append([*module.state_dict().values(), torch.get_rng_state()])
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


@pytest.mark.parametrize("method", ["update", "close"])
def test_a_terminal_that_has_gone_costs_no_measurement(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Gone:
        def update(self, count: int) -> None:
            if method == "update":
                raise OSError(5, "Input/output error")

        def close(self) -> None:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr("lightning_hessian.fit.progress.open_bar", lambda *_: Gone())
    callback = spectrum()
    trainer(callback).fit(Classifier(), loader())
    assert [report.failure for report in callback.reports] == [None, None]


@pytest.mark.parametrize("switched_off", ["by the trainer", "by the bar", "by another process"])
def test_nothing_is_shown_where_lightnings_bar_is_not(
    switched_off: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setattr(sys, "stderr", Terminal())
    bars = [] if switched_off == "by the trainer" else [TQDMProgressBar()]
    if switched_off == "by the bar":
        bars[0].disable()
    host = trainer(*bars, enable_progress_bar=bool(bars))
    if switched_off == "by another process":
        monkeypatch.setattr(type(host), "is_global_zero", False)
    assert open_bar(host, 10) is None
    assert sys.stdout.getvalue() == sys.stderr.getvalue() == ""  # type: ignore[attr-defined]


def test_a_bar_of_another_make_has_ours_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Plain(ProgressBar):
        is_enabled = True

        def disable(self) -> None: ...

    monkeypatch.setattr(sys, "stderr", Terminal())
    trainer(Plain(), spectrum(), enable_progress_bar=True).fit(Classifier(), loader())
    assert f"{NAME}: " in sys.stderr.getvalue()  # type: ignore[attr-defined]


def told(callback: Any, caplog: pytest.LogCaptureFixture) -> list[str]:
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    logger.addHandler(caplog.handler)
    try:
        with caplog.at_level(logging.INFO):
            trainer(callback).fit(Classifier(), loader())
    finally:
        logger.removeHandler(caplog.handler)
    lines = {record.getMessage(): None for record in caplog.records}
    return [line for line in lines if re.match(r"\w+ \(\w+\): step \d+: ", line)]


@pytest.mark.parametrize("kind", [HessianSpectrum, LossDifference, CriticalPoint])
def test_a_line_for_each_report_where_it_is_asked_for(
    kind: Any, caplog: pytest.LogCaptureFixture
) -> None:
    assert told(kind(max_overhead=None), caplog) == []
    callback = kind(max_overhead=None, verbose=True)
    first, last = told(callback, caplog)
    report = callback.reports[0]
    name = f"{kind.__name__} ({callback.name})"
    assert first.startswith(f"{name}: step 0: loss {report.loss:.4f}, ")
    assert last.startswith(f"{name}: step 4: loss ")
    assert first.endswith(f"seconds {report.seconds:.2f}")
    # what was not measured is left out
    assert " -," not in first


def test_verbose_is_a_flag() -> None:
    with pytest.raises(ValueError, match="`verbose` must be True or False, got 2"):
        HessianSpectrum(verbose=2)  # type: ignore[arg-type]
