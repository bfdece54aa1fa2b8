"""What stands beside a checkpoint is the report of the weights in it, or nothing."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import AsyncCheckpointIO, TorchCheckpointIO
from torch import Tensor, nn

from lightning_hessian import HessianSpectrum, Krylov
from lightning_hessian.fit.checkpoints import Sidecars
from lightning_hessian.fit.room import Room
from lightning_hessian.show import read_sidecar
from tests.callbacks.test_checkpoints import true_eigenvalue
from tests.helpers.checkpoints import ByEpochAndStep, analyzed
from tests.helpers.fitting import Classifier, loader, trainer
from tests.helpers.spectrum import spectrum, steps


def at_saves(**options: Any) -> HessianSpectrum:
    return spectrum(every_n_epochs=None, at_checkpoints=True, on_error="warn", **options)


class Saves(pl.Callback):
    """Writes the same file after each second step, and after an exception."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step % 2 == 0:
            trainer.save_checkpoint(self.path)

    def on_exception(self, trainer: pl.Trainer, *_: Any) -> None:
        trainer.save_checkpoint(self.path)


class LaterNot(Classifier):
    """From the third step on it fails in one of several ways, in measurements only."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way

    def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:
        loss = super().training_step(batch, batch_idx)
        is_measured = "log" in vars(self)
        if self.trainer.global_step < 3:
            return loss
        if self.way == "training fails" and not is_measured:
            raise ValueError("the end")
        if self.way == "a signal comes" and is_measured:
            os.kill(os.getpid(), signal.SIGUSR1)
        return None if self.way == "refused" and is_measured else loss


@pytest.fixture(autouse=True)
def _handler() -> Iterator[None]:
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    yield
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.filterwarnings("ignore:HessianSpectrum (abandoned|has no numbers)")
@pytest.mark.parametrize(
    ("way", "last"), [("training fails", 3), ("a signal comes", 4), ("refused", 8)]
)
def test_no_report_of_earlier_weights_stays_beside_a_file_that_is_overwritten(
    way: str, last: int, tmp_path: Path
) -> None:
    path = tmp_path / "last.ckpt"
    callback = at_saves()
    epochs = 2 if way == "refused" else 1
    try:
        trainer(callback, Saves(path), max_epochs=epochs).fit(LaterNot(way), loader())
    except ValueError:
        assert way == "training fails"
    assert steps(callback)[:2] == [0, 2]
    assert torch.load(path, weights_only=True)["global_step"] == last
    assert not list(tmp_path.glob("*.json"))


class Slow(TorchCheckpointIO):
    def save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        time.sleep(0.05)
        super().save_checkpoint(*args, **kwargs)


def test_reports_wait_for_checkpoints_that_another_thread_writes(tmp_path: Path) -> None:
    saver = ModelCheckpoint(tmp_path, every_n_train_steps=1, save_top_k=-1)
    plugins = [AsyncCheckpointIO(Slow())]
    callback = at_saves(solver=Krylov(max_hvps=51))
    trainer(callback, saver, enable_checkpointing=True, plugins=plugins).fit(Classifier(), loader())
    files = sorted(tmp_path.glob("*.ckpt"))
    assert len(files) == 4
    for step, path in enumerate(files, start=1):
        beside = read_sidecar(f"{path}.hessian.json")
        wanted = true_eigenvalue(torch.load(path, weights_only=True)["state_dict"])
        assert beside["global_step"] == step
        # a few products find it to four digits
        assert beside["largest"]["values"][0] == pytest.approx(wanted, rel=5e-5)


def test_a_report_is_kept_until_its_checkpoint_was_there_and_is_gone(tmp_path: Path) -> None:
    sidecars = Sidecars(trainer(), "hessian", Room())
    first, second = (tmp_path / name for name in ("first.ckpt", "second.ckpt"))
    for ckpt in (first, second):
        Path(f"{ckpt}.hessian.json").touch()
    sidecars.note(str(first))
    sidecars.settle()
    first.touch()  # by another thread
    sidecars.note(str(second))
    first.unlink()  # in favour of the second, which is being written
    sidecars.settle()
    assert [path.name for path in tmp_path.iterdir()] == ["second.ckpt.hessian.json"]
    second.touch()
    sidecars.settle()
    second.unlink()
    sidecars.note(str(first))
    sidecars.settle()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "ending"), [("parts/head", ".parts.head.json"), ("a[1]", ".a[1].json")]
)
def test_the_name_may_be_any_tag(name: str, ending: str, tmp_path: Path) -> None:
    saver = ModelCheckpoint(tmp_path, every_n_train_steps=2, save_top_k=1)
    fitted = trainer(at_saves(name=name), saver, enable_checkpointing=True)
    fitted.fit(Classifier(), loader())
    (path,) = tmp_path.glob("*.ckpt")
    assert [each.name for each in tmp_path.iterdir() if each != path] == [path.name + ending]
    later = Sidecars(fitted, name, Room())
    path.unlink()
    later.settle()
    assert not list(tmp_path.iterdir())


def test_a_change_of_the_working_directory_moves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    foreign = other / "mine.ckpt.hessian.json"
    for path in (tmp_path / "mine.ckpt", foreign):
        path.touch()
    monkeypatch.chdir(tmp_path)
    sidecars = Sidecars(trainer(), "hessian", Room())
    sidecars.note("mine.ckpt")
    monkeypatch.chdir(other)
    sidecars.settle()
    assert foreign.exists()


def test_drafts_that_a_kill_has_left_go_at_the_next_start_and_nothing_else(tmp_path: Path) -> None:
    ours = [".a.ckpt.hessian.json.part", ".b.ckpt.hessian.json.part"]
    others = [
        ".a.ckpt.masks.json.part",  # of another callback
        "a.ckpt.hessian.json.part",
        ".mine.part",
        ".a.ckpt.hessian.json",
        ".a.ckpt.hessian.json.part.old",
        ".c.ckpt",
    ]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for folder in (tmp_path, elsewhere):
        for name in (*ours, *others):
            (folder / name).write_text("{")
        (folder / ".folder.hessian.json.part").mkdir()
        (folder / ".link.hessian.json.part").symlink_to(folder / ".mine.part")
    kept = {*others, ".folder.hessian.json.part", ".link.hessian.json.part"}
    saver = ModelCheckpoint(tmp_path, every_n_train_steps=9)
    sidecars = Sidecars(trainer(saver, enable_checkpointing=True), "hessian", Room())
    assert {path.name for path in tmp_path.iterdir()} == kept | {"elsewhere"}
    # a folder that only the user knows, when a checkpoint is first saved into it
    assert ours[0] in {path.name for path in elsewhere.iterdir()}
    sidecars.drop(str(elsewhere / "d.ckpt"))
    assert {path.name for path in elsewhere.iterdir()} == kept


class Normalised(Classifier):
    """Its loss depends on running statistics, which move with every batch."""

    def __init__(self) -> None:
        super().__init__(nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)))

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Only the time of saving."""


@pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`")
def test_buffers_that_moved_since_the_last_step_are_measured_with_the_file_that_holds_them(
    tmp_path: Path,
) -> None:
    callback = at_saves(every_n_train_steps=1)
    saver = ModelCheckpoint(tmp_path, save_top_k=-1)
    trainer(
        callback,
        saver,
        enable_checkpointing=True,
        accumulate_grad_batches=2,
        val_check_interval=3,
    ).fit(Normalised(), loader(), loader())
    # due once for each step, not again for each batch
    assert steps(callback) == [0, 1, 1, 2]
    (path,) = tmp_path.glob("*.ckpt")
    beside = read_sidecar(f"{path}.hessian.json")
    (after,) = analyzed(Normalised(), path)
    assert beside["global_step"] == after.global_step == 1
    assert beside["loss"] == after.loss
    assert beside["largest"]["values"] == after.largest.values.tolist()
    assert callback.reports[1].loss != after.loss


def test_a_file_saved_after_the_last_epoch_holds_the_numbers_of_the_epoch_it_says(
    tmp_path: Path,
) -> None:
    saver = ModelCheckpoint(tmp_path, every_n_epochs=9, save_last=True)
    callback = spectrum(at_checkpoints=True)
    trainer(callback, saver, enable_checkpointing=True).fit(ByEpochAndStep(), loader())
    path = tmp_path / "last.ckpt"
    beside = read_sidecar(f"{path}.hessian.json")
    assert beside["epoch"] == torch.load(path, weights_only=True)["epoch"] == 1
    assert beside["loss"] == callback.reports[-1].loss
    assert beside["loss"] == pytest.approx(callback.reports[-2].loss * 2.4 / 1.4, rel=1e-6)


def test_a_trial_run_measures_no_file_that_is_saved_at_its_end(tmp_path: Path) -> None:
    saver = ModelCheckpoint(tmp_path, save_last=True)
    callback = spectrum(at_checkpoints=True)
    trainer(callback, saver, enable_checkpointing=True, fast_dev_run=2).fit(Classifier(), loader())
    assert steps(callback) == [0, 2]


def test_what_cannot_be_written_before_the_first_report_ends_no_training() -> None:
    def fails() -> None:
        raise OSError("no such device")

    with pytest.warns(UserWarning, match="could not write its report: OSError: no such device"):
        at_saves()._try_to_write(fails)
