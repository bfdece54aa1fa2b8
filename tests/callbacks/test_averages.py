"""The average of an EMA or SWA callback is measured in the fit, and files say which they hold."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, StochasticWeightAveraging
from torch import nn

from lightning_hessian import HessianSpectrum, Krylov, Loss, SpectrumReport
from lightning_hessian.errors import RefusedError
from lightning_hessian.show import read_sidecar
from tests.helpers.averages import Averages, averaging
from tests.helpers.checkpoints import analyzed, numbers
from tests.helpers.difference import difference
from tests.helpers.fitting import Classifier, classification_data, loader, trainer
from tests.helpers.networks import measured
from tests.helpers.recording import differences, run
from tests.helpers.spectrum import spectrum, steps

CHEAP = {"num_eigenvalues": 1, "trace": False, "density": False, "solver": Krylov(max_hvps=8)}
AVERAGED = Loss(weights="averaged")


def normalised() -> Classifier:
    torch.manual_seed(0)
    return Classifier(nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)))


def at(state: dict[str, Any], module: Classifier, **options: Any) -> SpectrumReport:
    """Measured by a callback in a fit that begins with these weights."""
    module.load_state_dict(state)
    return measured(module, classification_data(), **(CHEAP | options))


@pytest.mark.parametrize(
    ("precision", "use_buffers"), [(None, True), pytest.param(64, False, marks=pytest.mark.slow)]
)
def test_each_report_is_of_the_average_with_its_own_buffers(
    precision: Any, use_buffers: bool
) -> None:
    averager = averaging(use_buffers=use_buffers)
    kept = Averages(averager)
    callback = spectrum(
        loss=Loss(weights="averaged", precision=precision),
        num_samples="all",
        every_n_train_steps=2,
        every_n_epochs=None,
    )
    fit = trainer(averager, kept, callback, max_epochs=1, num_sanity_val_steps=0)
    fit.fit(normalised(), loader())
    # none at the start, where there is no average
    assert steps(callback) == [2, 4]
    for report in callback.reports:
        expected = at(kept.states[report.global_step], normalised(), loss=Loss(precision=precision))
        assert report.weights == "averaged"
        assert report.loss == expected.loss
        assert report.largest.values.equal(expected.largest.values)
    # the module's own weights have another loss
    other = spectrum(num_samples="all", every_n_train_steps=2, every_n_epochs=None)
    trainer(other, max_epochs=1).fit(normalised(), loader())
    assert [r.loss for r in other.reports[1:]] != [r.loss for r in callback.reports]


@pytest.mark.parametrize("mode", ["eval", pytest.param("train", marks=pytest.mark.slow)])
def test_the_run_is_the_run_without_it_bit_by_bit(mode: Any, tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "module": normalised,
        "data": loader,
        "callbacks": lambda: [averaging()],
        "max_epochs": 1,
        "limit_val_batches": 0,
        "logger": False,
    }
    without = run(tmp_path / "without", **settings)
    callback = spectrum(loss=AVERAGED, mode=mode, every_n_train_steps=1, at_checkpoints=True)
    with_ours = run(tmp_path / "with", callback, **settings)
    assert differences(without, with_ours) == []
    assert len(callback.reports) >= 3
    assert all(report.failure is None for report in callback.reports)


def test_a_swa_is_measured_from_when_it_has_begun() -> None:
    averager = StochasticWeightAveraging(swa_lrs=0.1, swa_epoch_start=2)
    callback = spectrum(loss=AVERAGED, num_samples="all", every_n_epochs=1)
    module = Classifier()
    trainer(averager, callback, max_epochs=4).fit(module, loader())
    assert [(r.epoch, r.weights, r.failure) for r in callback.reports] == [
        (1, "averaged", None),
        (2, "averaged", None),
        (3, "averaged", None),
    ]
    # in the end the module has the average
    expected = at(copy.deepcopy(module.state_dict()), Classifier())
    assert callback.reports[-1].loss == pytest.approx(expected.loss, rel=1e-6)


@pytest.mark.slow
def test_losses_of_samples_are_those_of_the_average_too() -> None:
    averager = averaging()
    kept = Averages(averager)
    callback = difference(loss=AVERAGED, num_samples="all", every_n_train_steps=4)
    trainer(averager, kept, callback, max_epochs=1).fit(Classifier(), loader())
    report = callback.reports[0]
    expected = at(kept.states[report.global_step], Classifier())
    assert (report.weights, report.global_step) == ("averaged", 4)
    assert report.loss == pytest.approx(expected.loss, rel=1e-6)


REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "none": (list, {}, r"exactly one callback that averages weights.*got none. Add one"),
    "two": (
        lambda: [averaging(), StochasticWeightAveraging(swa_lrs=0.1)],
        {},
        "exactly one callback .* got EMAWeightAveraging, StochasticWeightAveraging",
    ),
    "statistics": (
        lambda: [StochasticWeightAveraging(swa_lrs=0.1, swa_epoch_start=1)],
        {"every_n_train_steps": 2},
        "no running statistics that belong to the average.*`mode='train'`",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_average_is_refused_with_the_way_out(name: str) -> None:
    make, options, reason = REFUSED[name]
    callback = spectrum(loss=AVERAGED, **options)
    with pytest.raises(RefusedError, match=reason):
        trainer(*make(), callback, max_epochs=3).fit(normalised(), loader())


def test_an_average_that_never_begins_is_told_once_at_the_end() -> None:
    callback = spectrum(loss=AVERAGED, on_error="warn", every_n_train_steps=1)
    averager = averaging(update_starting_at_step=100)
    with pytest.warns(UserWarning, match="needs an average, but the averaging .* has not begun"):
        trainer(averager, callback, max_epochs=2).fit(Classifier(), loader())
    (report,) = callback.reports
    assert report.failure is not None
    assert (report.weights, report.global_step) == ("averaged", 8)


def test_a_parameter_that_came_later_has_no_average() -> None:
    class Grows(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
            pl_module.late = nn.Parameter(torch.zeros(1))

    callback = spectrum(loss=AVERAGED, every_n_train_steps=2, every_n_epochs=None)
    with pytest.raises(RefusedError, match="every parameter in the average, but late came to"):
        trainer(averaging(update_every_n_steps=100), Grows(), callback).fit(Classifier(), loader())


@pytest.mark.parametrize("is_first", [True, False])
def test_the_last_report_says_that_the_module_has_become_the_average(is_first: bool) -> None:
    callback, averager = spectrum(num_samples="all"), averaging()
    callbacks = [averager, callback] if is_first else [callback, averager]
    trainer(*callbacks, max_epochs=1).fit(Classifier(), loader())
    assert callback.reports[0].weights == "current"
    last = callback.reports[-1]
    told = "module-holds-average" in [note.code for note in last.notes]
    assert (last.weights, told) == (("averaged", True) if is_first else ("current", False))
    assert all(r.weights == "current" for r in callback.reports[:-1])


def saved(folder: Path, *callbacks: pl.Callback, **saver: Any) -> None:
    own = ModelCheckpoint(folder, every_n_train_steps=3, save_top_k=-1, **saver)
    trainer(*callbacks, own, max_epochs=1, enable_checkpointing=True).fit(Classifier(), loader())


def codes_beside(folder: Path, name: str = "hessian") -> list[str]:
    (path,) = folder.glob(f"*.ckpt.{name}.json")
    return [note["code"] for note in read_sidecar(path)["notes"]]


OTHER = "other-weights-in-file"


def at_saves(**options: Any) -> HessianSpectrum:
    return spectrum(at_checkpoints=True, every_n_epochs=None, **options)


def test_a_report_beside_a_file_of_other_weights_says_so(tmp_path: Path) -> None:
    current, average = at_saves(), at_saves(loss=AVERAGED, name="average")
    saved(tmp_path, averaging(), current, average)
    (path,) = tmp_path.glob("*.ckpt")
    assert OTHER in codes_beside(tmp_path)
    assert OTHER not in codes_beside(tmp_path, "average.averaged")
    (note,) = (n for n in read_sidecar(f"{path}.hessian.json")["notes"] if n["code"] == OTHER)
    assert note["text"] == (
        "The `state_dict` of the checkpoint holds averaged weights, while this report is of the "
        "weights that the optimiser moves. For the others give `weights='averaged'`."
    )
    # so says the same report made of the file, and both have the numbers of their own weights
    for callback, weights in ((current, "current"), (average, "averaged")):
        (after,) = analyzed(Classifier(), path, weights=weights)
        during = next(r for r in callback.reports if r.ckpt_path)
        assert (OTHER in [n.code for n in after.notes]) == (weights == "current")
        assert after.weights == during.weights == weights
        wanted, found = (
            # the edge is of a running optimiser alone
            {k: v for k, v in numbers(r).items() if k not in ("notes", "edge")}
            for r in (during, after)
        )
        assert found == wanted


@pytest.mark.slow
def test_a_file_of_the_same_weights_needs_no_word(tmp_path: Path) -> None:
    saved(tmp_path / "plain", at_saves())
    assert OTHER not in codes_beside(tmp_path / "plain")
    # where weights alone are saved, they are the current ones
    for callback, name in ((at_saves(), "hessian"), (at_saves(loss=AVERAGED), "hessian.averaged")):
        folder = tmp_path / name
        saved(folder, averaging(), callback, save_weights_only=True)
        assert (OTHER in codes_beside(folder, name)) == (name == "hessian.averaged")


def test_analyze_chooses_the_weights_of_files_by_itself(tmp_path: Path) -> None:
    saved(tmp_path, averaging())
    with pytest.raises(ValueError, match=r"`callback` must leave to `analyze` which weights.*got"):
        analyzed(Classifier(), tmp_path, callback=spectrum(loss=AVERAGED))


def test_only_two_kinds_of_weights_are_known() -> None:
    with pytest.raises(ValueError, match="`weights` must be 'current' or 'averaged', got 'ema'"):
        Loss(weights="ema")  # type: ignore[arg-type]
