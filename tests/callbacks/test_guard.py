"""What goes wrong in a hook itself, rather than in a measurement."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch

from lightning_hessian import HessianSpectrum
from lightning_hessian.errors import RestorationError
from lightning_hessian.fit import Pace, Recorder, Session
from lightning_hessian.fit.report_log import ReportLog
from lightning_hessian.fit.untouched import Untouched
from lightning_hessian.options import LossSetup
from lightning_hessian.sandbox import Sandbox
from tests.helpers.fitting import Classifier, loader, trainer


def broken(error: Exception) -> Any:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    return fail


@pytest.mark.parametrize("error", [KeyError("x"), StopIteration()], ids=lambda e: type(e).__name__)
def test_a_hook_that_fails_is_told_once_and_training_goes_on(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pace, "prepare", broken(error))
    callback = HessianSpectrum()
    run = trainer(callback, max_epochs=2)
    with pytest.warns(UserWarning, match="stops measuring in this fit, as `on_train_start` failed"):
        run.fit(Classifier(), loader())
    assert run.global_step == 8
    (report,) = callback.reports
    assert report.failure is not None
    assert report.failure.startswith(type(error).__name__)


def test_the_next_fit_is_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    callback = HessianSpectrum()
    with monkeypatch.context() as patch:
        patch.setattr(Session, "see", broken(ValueError("no")))
        with pytest.warns(UserWarning, match="`on_train_batch_start` failed: ValueError: no"):
            trainer(callback).fit(Classifier(), loader())
    count = len(callback.reports)
    trainer(callback, max_epochs=4).fit(Classifier(), loader())
    assert [report.failure for report in callback.reports[count:]] == [None] * (
        len(callback.reports) - count
    )
    assert len(callback.reports) > count


def test_where_asked_the_error_ends_the_fit_and_never_as_the_end_of_data(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Session, "see", broken(StopIteration()))
    with pytest.raises(RuntimeError, match="StopIteration"):
        trainer(HessianSpectrum(on_error="raise")).fit(Classifier(), loader())


def test_a_history_that_cannot_be_saved_or_read_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    callback = HessianSpectrum()
    monkeypatch.setattr(Recorder, "state", broken(TypeError("no")))
    with pytest.warns(UserWarning, match="no part in this checkpoint, as `state_dict` failed"):
        assert callback.state_dict() == {}
    monkeypatch.setattr(ReportLog, "load", broken(TypeError("no")))
    with pytest.warns(UserWarning, match="`load_state_dict` failed.*begins anew"):
        callback.load_state_dict({})
    assert callback.reports == []


def left_behind(module: Any, kind: str) -> None:
    """What a fault in putting the state back would leave."""
    if kind == "weights or buffers":
        module.network[0].weight.data[0, 0] += 1e-6
    elif kind == "training flags":
        module.network.eval()
    else:
        module.__dict__["log"] = print


@pytest.mark.parametrize("kind", ["weights or buffers", "training flags", "attributes"])
def test_a_run_that_is_not_the_same_after_a_measurement_ends(kind: str) -> None:
    module = Classifier()
    fit = trainer()
    untouched = Untouched(fit, module)
    untouched.verify()
    left_behind(module, kind)
    with pytest.raises(RestorationError, match=f"the module has other {kind} than before"):
        untouched.verify()


def weights(*callbacks: Any) -> list[Any]:
    torch.manual_seed(3)
    module = Classifier()
    trainer(*callbacks).fit(module, loader())
    return [tensor.tolist() for tensor in module.state_dict().values()]


def test_a_fault_at_the_first_instant_of_leaving_the_sandbox_is_made_good(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bare = weights()
    callback = HessianSpectrum()
    monkeypatch.setattr(Sandbox, "__exit__", broken(KeyError("x")))
    with pytest.warns(UserWarning, match="has no numbers at step 4. KeyError: 'x'"):
        assert weights(callback) == bare
    assert callback.reports[-1].failure == "KeyError: 'x'"


def test_where_the_sandbox_is_never_left_the_run_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[Sandbox] = []

    def fails(self: Sandbox, *_: Any) -> None:
        left.append(self)
        raise KeyError("x")

    with monkeypatch.context() as patch:
        patch.setattr(Sandbox, "__exit__", fails)
        patch.setattr(Sandbox, "close", fails)
        with pytest.raises(RestorationError, match="the module has other training flags"):
            trainer(HessianSpectrum()).fit(Classifier(), loader())
    # what it has changed of torch itself is not to stay for the other tests
    for sandbox in reversed(left):
        sandbox.close()


def test_a_block_that_a_fault_has_kept_open_is_settled_at_once_and_for_good() -> None:
    session = Session(LossSetup(), trainer(), Classifier(), name="any")
    before = torch.get_rng_state()
    block = session.undisturbed()
    block.__enter__()
    torch.rand(1)
    session.settle()
    assert torch.equal(torch.get_rng_state(), before)
    # training goes on, and draws; then the block is forgotten, which leaves it
    torch.rand(1)
    drawn = torch.get_rng_state()
    del block
    gc.collect()
    assert torch.equal(torch.get_rng_state(), drawn)
