"""The history of reports through resumes, second fits and changes of the callbacks."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, TensorDataset

from lightning_hessian import HessianSpectrum, Krylov, Loss, SpectrumReport
from lightning_hessian.fit.history import load_history
from tests.helpers.fitting import Classifier, loader, trainer
from tests.helpers.programs import run_program
from tests.helpers.spectrum import spectrum, steps

pytestmark = pytest.mark.filterwarnings(
    "ignore:You're resuming from a checkpoint that ended before the epoch",
    "ignore:The dirpath has changed",
    "ignore:Checkpoint directory .* exists and is not empty",
)


def fit(
    directory: Path,
    *callbacks: pl.Callback,
    steps: int,
    ckpt_path: Path | None = None,
    every: int = 3,
) -> None:
    torch.manual_seed(4)
    saver = ModelCheckpoint(directory, every_n_train_steps=every, save_top_k=-1)
    trainer(*callbacks, saver, max_steps=steps, max_epochs=-1, enable_checkpointing=True).fit(
        Classifier(), loader(shuffle=False), ckpt_path=ckpt_path, weights_only=True
    )


def numbers(callback: HessianSpectrum) -> list[tuple[int, int, float, float]]:
    return [
        (
            r.global_step,
            r.epoch,
            r.loss,
            float(r.largest.values[0]) if len(r.largest.values) else 0.0,
        )
        for r in callback.reports
    ]


def often(**options: Any) -> HessianSpectrum:
    return spectrum(**({"every_n_epochs": None, "every_n_train_steps": 2} | options))


def test_a_resumed_run_has_the_history_of_an_undisturbed_one(tmp_path: Path) -> None:
    whole, first, second = (often(at_checkpoints=True, every_n_train_steps=3) for _ in range(3))
    fit(tmp_path / "whole", whole, steps=9, every=4)
    fit(tmp_path / "first", first, steps=7, every=4)
    saved = tmp_path / "first" / "epoch=0-step=4.ckpt"
    fit(tmp_path / "second", second, steps=9, every=4, ckpt_path=saved)
    assert steps(whole) == [0, 3, 4, 6, 8, 9]
    assert numbers(second) == numbers(whole)


def test_a_run_resumed_inside_an_epoch_goes_on_with_its_history(tmp_path: Path) -> None:
    # Lightning goes on with other batches there, so that later numbers are of another run
    first, second = (often(at_checkpoints=True) for _ in range(2))
    fit(tmp_path / "first", first, steps=7)
    saved = tmp_path / "first" / "epoch=1-step=6.ckpt"
    fit(tmp_path / "second", second, steps=9, ckpt_path=saved)
    assert steps(second) == [0, 2, 3, 4, 6, 8, 9]
    assert numbers(second)[:5] == numbers(first)[:5]


def test_the_weights_in_a_checkpoint_are_not_measured_again_on_resume(tmp_path: Path) -> None:
    first, second = (often(at_checkpoints=True) for _ in range(2))
    fit(tmp_path, first, steps=3)
    fit(tmp_path, second, steps=3 + 1, ckpt_path=tmp_path / "epoch=0-step=3.ckpt")
    assert steps(first) == [0, 2, 3]
    assert steps(second) == [0, 2, 3, 4]


def test_changed_options_keep_the_history_and_measure_anew(tmp_path: Path) -> None:
    first = often(at_checkpoints=True)
    second = often(at_checkpoints=True, num_eigenvalues=2)
    fit(tmp_path, first, steps=3)
    fit(tmp_path, second, steps=4, ckpt_path=tmp_path / "epoch=0-step=3.ckpt")
    assert steps(second) == [0, 2, 3, 3, 4]
    assert [len(report.largest.values) for report in second.reports] == [1, 1, 1, 2, 2]


def test_the_first_report_after_a_change_of_options_says_that_the_curve_is_of_another_quantity(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = often(at_checkpoints=True)
    others = often(at_checkpoints=True, loss=Loss(parameters=["network.2.*"]))
    same = often(at_checkpoints=True)
    fit(tmp_path, first, steps=3)
    saved = tmp_path / "epoch=0-step=3.ckpt"
    with caplog.at_level(logging.INFO, logger="lightning.pytorch"):
        fit(tmp_path, others, steps=4, ckpt_path=saved)
    codes = [[note.code == "options-changed" for note in r.notes] for r in others.reports]
    assert [any(each) for each in codes] == [False, False, False, True, False]
    note = next(n for n in others.reports[3].qualifications if n.code == "options-changed")
    assert "(21 parameters instead of 51)" in note
    assert any("from here on the curves" in r.getMessage() for r in caplog.records)
    fit(tmp_path, same, steps=4, ckpt_path=saved)
    assert not any(n.code == "options-changed" for r in same.reports for n in r.notes)


def tokens(batch: Any) -> float:
    """A weight of a batch, found by its name in whichever process."""
    return float(len(batch[0]))


NOT_PRINTED: dict[str, Callable[[], Loss]] = {
    "weight_fn": lambda: Loss(weight_fn=tokens),
    "a lambda": lambda: Loss(weight_fn=lambda batch: float(len(batch[0]))),
    "dataloader": lambda: Loss(dataloader=loader(batch_size=13)),
}
"""Options of which a `repr` shows an address, so that it is another one in every process."""


def resumed(directory: Path, name: str) -> list[int]:
    """The history of a new callback with equal options that goes on from the first fit's file."""
    callback = often(at_checkpoints=True, loss=NOT_PRINTED[name]())
    saved = directory / "first" / "epoch=0-step=2.ckpt"
    fit(directory / "second", callback, steps=4, ckpt_path=saved, every=2)
    return steps(callback)


@pytest.mark.parametrize("name", NOT_PRINTED)
def test_equal_options_that_hold_functions_and_loaders_measure_no_weights_twice(
    name: str, tmp_path: Path
) -> None:
    first = often(at_checkpoints=True, loss=NOT_PRINTED[name]())
    fit(tmp_path / "first", first, steps=2, every=2)
    assert steps(first) == [0, 2]
    assert resumed(tmp_path, name) == [0, 2, 4]


@pytest.mark.slow
def test_nor_do_they_in_another_process(tmp_path: Path) -> None:
    for name, make in NOT_PRINTED.items():
        first = often(at_checkpoints=True, loss=make())
        fit(tmp_path / name / "first", first, steps=2, every=2)
    # one process for all, as its imports take longer than all of these fits
    code = (
        "import json, sys; from pathlib import Path;"
        "from tests.callbacks.test_resume import NOT_PRINTED, resumed;"
        "print(json.dumps([resumed(Path(sys.argv[1]) / name, name) for name in NOT_PRINTED]))"
    )
    ended = run_program("-c", code, str(tmp_path))
    assert ended.code == 0, ended.errors[-2000:]
    assert json.loads(ended.output.splitlines()[-1]) == [[0, 2, 4]] * len(NOT_PRINTED)


def test_another_function_measures_anew(tmp_path: Path) -> None:
    first = often(at_checkpoints=True, loss=Loss(weight_fn=tokens))
    fit(tmp_path / "first", first, steps=2, every=2)
    assert resumed(tmp_path, "a lambda") == [0, 2, 2, 4]


def test_a_callback_added_later_begins_its_history_there(tmp_path: Path) -> None:
    fit(tmp_path, steps=3)
    added = often()
    fit(tmp_path, added, steps=5, ckpt_path=tmp_path / "epoch=0-step=3.ckpt")
    assert steps(added) == [3, 4, 5]


def test_a_callback_removed_later_does_not_hinder_the_resume(tmp_path: Path) -> None:
    fit(tmp_path, often(), steps=3)
    with pytest.warns(UserWarning, match="callbacks used to create the checkpoint.*HessianSp"):
        fit(tmp_path, steps=5, ckpt_path=tmp_path / "epoch=0-step=3.ckpt")


def test_two_callbacks_keep_apart_their_histories(tmp_path: Path) -> None:
    def both() -> tuple[HessianSpectrum, HessianSpectrum]:
        return often(), often(name="other", num_eigenvalues=2, every_n_train_steps=3)

    fit(tmp_path, *both(), steps=4)
    one, other = both()
    fit(tmp_path, other, one, steps=6, ckpt_path=tmp_path / "epoch=0-step=3.ckpt")
    assert steps(one) == [0, 2, 3, 4, 6]
    assert steps(other) == [0, 3, 6]


def test_a_second_fit_measures_its_own_start_and_data() -> None:
    callback = spectrum()
    module, fitted = Classifier(), trainer(callback, max_epochs=1)
    fitted.fit(module, loader())
    fitted.fit_loop.max_epochs = 2
    other = TensorDataset(torch.ones(9, 4), torch.zeros(9).long())
    fitted.fit(module, DataLoader(other, batch_size=3))
    assert steps(callback) == [0, 4, 4, 7]
    samples = [report.num_samples for report in callback.reports]
    assert samples == [26, 26, 9, 9]
    assert callback.reports[1].loss != callback.reports[2].loss


def test_a_history_of_an_unknown_version_is_left_out_with_a_warning() -> None:
    callback = spectrum()
    state = callback.state_dict() | {"version": 99}
    with pytest.warns(UserWarning, match="in version 99, and only version 3 is known.*anew"):
        callback.load_state_dict(state)
    assert callback.reports == []


def test_a_history_is_primitives_and_comes_back() -> None:
    callback = spectrum(density=True, trace=True, solver=Krylov(max_hvps=51))
    trainer(callback).fit(Classifier(), loader())
    state = callback.state_dict()
    assert primitive(state)
    history = load_history(state, SpectrumReport, "other settings")
    assert [r.to_dict() for r in history.reports] == [r.to_dict() for r in callback.reports]
    assert history.measured_at is None


def primitive(value: Any) -> bool:
    if isinstance(value, dict):
        return all(type(key) is str and primitive(item) for key, item in value.items())
    if isinstance(value, list):
        return all(map(primitive, value))
    return value is None or type(value) in (str, int, float, bool)
