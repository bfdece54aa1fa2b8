"""Each checkpoint gets a report of exactly its weights: inside it, and beside it as JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import (
    Checkpoint,
    EMAWeightAveraging,
    LearningRateFinder,
    ModelCheckpoint,
    OnExceptionCheckpoint,
)
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from lightning_hessian import HessianSpectrum, Krylov, Loss, SpectrumReport
from lightning_hessian.show import read_sidecar
from tests.helpers import hard_modules as hard
from tests.helpers.fitting import Classifier, loader, trainer
from tests.helpers.spectrum import spectrum, steps

KEY = "HessianSpectrum{'name': 'hessian'}"


class Validated(Classifier):
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        # falls with every validation, so that the best are the latest
        self.log("val_loss", -float(self.global_step))


def at_saves(**options: Any) -> HessianSpectrum:
    return spectrum(every_n_epochs=None, at_checkpoints=True, **options, solver=Krylov(max_hvps=51))


def fit(*callbacks: pl.Callback, epochs: int = 2, **options: Any) -> pl.Trainer:
    torch.manual_seed(4)
    saves = any(isinstance(callback, Checkpoint) for callback in callbacks)
    fitted = trainer(*callbacks, max_epochs=epochs, enable_checkpointing=saves, **options)
    fitted.fit(Validated(), loader(), loader())
    return fitted


def saved(directory: Path) -> dict[str, dict[str, Any]]:
    """The checkpoints of a folder by name, read as a resuming Trainer reads them."""
    files = sorted(directory.glob("*.ckpt"))
    return {path.name: torch.load(path, weights_only=True) for path in files}


def true_eigenvalue(state_dict: dict[str, Any]) -> float:
    """The largest eigenvalue at some weights, by differences of gradients."""
    module = Classifier()
    module.load_state_dict(state_dict)
    matrix = hard.hessian_by_differences(module)
    return float(torch.linalg.eigvalsh(0.5 * (matrix + matrix.T))[-1])


# of Lightning, which takes a saver on exceptions for one that it might resume from
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*was called without a model.*", "ignore:.*there is no last checkpoint available.*"
)

Savers = Callable[[Path], list[pl.Callback]]
MANNERS: dict[str, Savers] = {
    "every n steps": lambda d: [ModelCheckpoint(d, every_n_train_steps=3, save_top_k=-1)],
    "every epoch": lambda d: [ModelCheckpoint(d, every_n_epochs=1, save_top_k=-1)],
    "last": lambda d: [ModelCheckpoint(d, every_n_train_steps=3, save_top_k=-1, save_last=True)],
    "link": lambda d: [ModelCheckpoint(d, every_n_train_steps=3, save_last="link")],
    "weights only": lambda d: [
        ModelCheckpoint(d, every_n_train_steps=3, save_top_k=-1, save_weights_only=True)
    ],
    "inside validation": lambda d: [ModelCheckpoint(d, monitor="val_loss", save_top_k=-1)],
    "best two": lambda d: [ModelCheckpoint(d, monitor="val_loss", save_top_k=2, save_last=True)],
    "two at once": lambda d: [
        ModelCheckpoint(d, filename="a{step}", every_n_train_steps=2, save_top_k=-1),
        ModelCheckpoint(d, filename="b{step}", every_n_train_steps=3, save_top_k=-1),
    ],
}


@pytest.mark.sampled
@pytest.mark.parametrize("manner", MANNERS)
def test_every_checkpoint_holds_and_stands_beside_the_report_of_its_weights(
    manner: str, tmp_path: Path
) -> None:
    callback = at_saves()
    fit(callback, *MANNERS[manner](tmp_path), val_check_interval=2)
    files = saved(tmp_path)
    assert len(files) >= 2
    for name, checkpoint in files.items():
        beside = SpectrumReport.from_dict(read_sidecar(tmp_path / f"{name}.hessian.json"))
        assert beside.global_step == checkpoint["global_step"]
        assert beside.epoch == checkpoint["epoch"]
        wanted = true_eigenvalue(checkpoint["state_dict"])
        assert float(beside.largest.values[0]) == pytest.approx(wanted, rel=1e-5)
        if manner != "weights only":
            inside = SpectrumReport.from_dict(checkpoint["callbacks"][KEY]["reports"][-1])
            assert inside.largest.values.equal(beside.largest.values)
            assert inside.global_step == beside.global_step
            assert Path(inside.ckpt_path or "").parent == tmp_path
    # of deleted checkpoints nothing is left, and no draft
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {*files, *(f"{name}.hessian.json" for name in files)}


def test_the_same_weights_are_measured_once(tmp_path: Path) -> None:
    callback = at_saves()
    savers = [
        ModelCheckpoint(tmp_path, every_n_train_steps=3, save_top_k=-1, save_last=True),
        ModelCheckpoint(tmp_path, filename="b{step}", every_n_train_steps=6, save_top_k=-1),
    ]
    fit(callback, *savers)
    assert steps(callback) == [0, 3, 6, 8]
    paths = [Path(report.ckpt_path or "").name for report in callback.reports]
    assert paths == ["", "epoch=0-step=3.ckpt", "epoch=1-step=6.ckpt", ""]
    assert len(list(tmp_path.glob("*.json"))) == 4
    assert read_sidecar(tmp_path / "last.ckpt.hessian.json")["ckpt_path"].endswith("/last.ckpt")


def test_a_due_report_learns_of_the_checkpoint_that_is_saved_of_its_weights(tmp_path: Path) -> None:
    callback = spectrum(every_n_epochs=None, every_n_train_steps=3, at_checkpoints=True)
    fit(callback, ModelCheckpoint(tmp_path, every_n_train_steps=6))
    assert [Path(r.ckpt_path or "").name for r in callback.reports] == [
        "", "", "epoch=1-step=6.ckpt", "",
    ]  # fmt: skip


def test_nothing_is_written_beside_checkpoints_unless_asked_for(tmp_path: Path) -> None:
    fit(spectrum(), ModelCheckpoint(tmp_path, every_n_train_steps=3))
    assert [path.suffix for path in tmp_path.iterdir()] == [".ckpt"]
    (checkpoint,) = saved(tmp_path).values()
    assert len(checkpoint["callbacks"][KEY]["reports"]) == 2  # the history travels all the same


class Breaks(pl.Callback):
    """Ends the fit with an error after some step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            raise ValueError("the end")


@pytest.mark.parametrize("kind", ["model checkpoint", "on exception"])
def test_a_checkpoint_of_an_exception_is_saved_without_any_measurement(
    kind: str, tmp_path: Path
) -> None:
    callback = at_saves()
    saver = (
        ModelCheckpoint(tmp_path, every_n_train_steps=3, save_on_exception=True, save_top_k=-1)
        if kind == "model checkpoint"
        else OnExceptionCheckpoint(tmp_path)
    )
    with pytest.raises(ValueError, match="the end"):
        fit(callback, Breaks(5), saver)
    assert steps(callback) == ([0, 3] if kind == "model checkpoint" else [0])
    at_five = [c for c in saved(tmp_path).values() if c["global_step"] == 5]
    assert [len(c["callbacks"][KEY]["reports"]) for c in at_five] == [len(callback.reports)]
    beside = [json.loads(p.read_text())["global_step"] for p in tmp_path.glob("*.json")]
    assert beside == ([3] if kind == "model checkpoint" else [])


def test_a_checkpoint_of_an_exception_gets_the_report_if_its_weights_were_just_measured(
    tmp_path: Path,
) -> None:
    callback = spectrum(every_n_epochs=None, every_n_train_steps=5, at_checkpoints=True)
    with pytest.raises(ValueError, match="the end"):
        fit(callback, Breaks(5), OnExceptionCheckpoint(tmp_path))
    assert steps(callback) == [0, 5]
    assert read_sidecar(tmp_path / "on_exception.ckpt.hessian.json")["global_step"] == 5


class SavesByHand(pl.Callback):
    """Calls ``trainer.save_checkpoint`` after the second step."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == 2:
            trainer.save_checkpoint(self.path)


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("mine.ckpt", [0, 2, 8]),
        ("hpc_ckpt_1.ckpt", [0, 8]),  # of a requeueing cluster, from a signal handler
        (".lr_find_1.ckpt", [0, 8]),
        (".scale_batch_size_1.ckpt", [0, 8]),
    ],
)
def test_users_files_are_measured_and_those_of_tuners_and_clusters_are_not(
    name: str, wanted: list[int], tmp_path: Path
) -> None:
    callback = at_saves()
    fitted = fit(SavesByHand(tmp_path / name), callback)
    assert steps(callback) == wanted
    assert (tmp_path / f"{name}.hessian.json").exists() == (len(wanted) == 3)
    assert "save_checkpoint" not in vars(fitted)  # after the fit everything is as before
    fitted.save_checkpoint(tmp_path / "after.ckpt")
    assert steps(callback) == wanted
    assert not (tmp_path / "after.ckpt.hessian.json").exists()


@pytest.mark.filterwarnings("ignore:.*`training_type_plugin.*")
def test_a_learning_rate_search_in_the_middle_of_a_fit_is_not_measured(tmp_path: Path) -> None:
    class InTheSecondEpoch(LearningRateFinder):
        def on_fit_start(self, *_: Any, **__: Any) -> None:
            """Not at the start."""

        def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
            if trainer.current_epoch == 1:
                self.lr_find(trainer, pl_module)

    callback = at_saves()
    fit(InTheSecondEpoch(num_training_steps=3), callback, default_root_dir=tmp_path)
    assert steps(callback) == [0, 8]


def test_two_callbacks_share_a_checkpoint_by_their_names(tmp_path: Path) -> None:
    one, other = at_saves(), at_saves(name="masks", mode="train")
    fitted = fit(one, other, ModelCheckpoint(tmp_path, every_n_train_steps=3))
    (checkpoint,) = saved(tmp_path).values()
    assert {key for key in checkpoint["callbacks"] if "Hessian" in key} == {
        KEY,
        "HessianSpectrum{'name': 'masks'}",
    }
    beside = {path.name.split(".ckpt.")[1] for path in tmp_path.glob("*.json")}
    assert beside == {"hessian.json", "masks.json"}
    assert "save_checkpoint" not in vars(fitted)


def test_two_callbacks_of_one_name_are_refused_by_lightning() -> None:
    with pytest.raises((RuntimeError, MisconfigurationException), match="more than one stateful"):
        trainer(spectrum(), spectrum())


@pytest.mark.parametrize("name", ["", "/a", "a/", 3])
def test_a_name_must_be_fit_for_a_tag(name: Any) -> None:
    with pytest.raises(ValueError, match=f"`name` must be a text .* slash.*got {name!r}"):
        HessianSpectrum(name=name)


def test_a_full_disk_costs_the_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    callback = at_saves(on_error="warn")
    reason = "could not write its report of step 3: NoRoomError: a disk took no more .*No space"
    with pytest.warns(UserWarning, match=reason):
        fit(callback, ModelCheckpoint(tmp_path, every_n_train_steps=3, save_top_k=-1))
    assert steps(callback) == [0, 3, 6, 8]
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".ckpt", ".ckpt"]


def test_a_refusal_at_other_weights_stands_beside_no_checkpoint(tmp_path: Path) -> None:
    callback = at_saves(on_error="warn", every_n_train_steps=3, loss=Loss(parameters=["nothing.*"]))
    with pytest.warns(UserWarning, match="matches none"):
        fit(callback, ModelCheckpoint(tmp_path, every_n_train_steps=3))
    (report,) = callback.reports
    assert report.global_step == 0
    assert not list(tmp_path.glob("*.json"))


def test_a_failure_stands_beside_the_checkpoint_with_its_reason(tmp_path: Path) -> None:
    class BadAtThree(Validated):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = super().training_step(batch, batch_idx)
            return loss * torch.nan if self.global_step == 3 and "log" in vars(self) else loss

    callback = at_saves(on_error="warn")
    saver = ModelCheckpoint(tmp_path, every_n_train_steps=3, save_top_k=-1)
    with pytest.warns(UserWarning, match="no numbers at step 3"):
        trainer(callback, saver, max_epochs=2, enable_checkpointing=True).fit(
            BadAtThree(), loader(), loader()
        )
    found = {c["global_step"]: c["failure"] for c in map(read_sidecar, tmp_path.glob("*.json"))}
    assert found.keys() == {3, 6}
    assert "got nan" in found[3]
    assert found[6] is None
    assert steps(callback) == [0, 3, 6, 8]


def test_numbers_are_those_of_the_epoch_and_step_that_the_checkpoint_holds(tmp_path: Path) -> None:
    class Annealed(Validated):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = super().training_step(batch, batch_idx)
            return loss * (1 + self.current_epoch + 0.01 * self.global_step)

    callback = at_saves()
    torch.manual_seed(4)
    saver = ModelCheckpoint(tmp_path, every_n_train_steps=3, save_top_k=-1)
    trainer(callback, saver, max_epochs=2, enable_checkpointing=True).fit(
        Annealed(), loader(), loader()
    )
    for checkpoint in saved(tmp_path).values():
        inside = checkpoint["callbacks"][KEY]["reports"][-1]
        factor = 1 + checkpoint["epoch"] + 0.01 * checkpoint["global_step"]
        wanted = factor * true_eigenvalue(checkpoint["state_dict"])
        assert inside["largest"]["values"][0] == pytest.approx(wanted, rel=1e-5)


def test_a_remote_folder_gets_its_reports_too() -> None:
    import fsspec

    callback = at_saves()
    fit(callback, ModelCheckpoint("memory://runs/one", every_n_train_steps=3, save_top_k=-1))
    files = fsspec.filesystem("memory").glob("/runs/one/*.json")
    assert [read_sidecar(f"memory:/{path}")["global_step"] for path in files] == [3, 6]


def test_a_file_that_is_no_report_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text("[1, 2]")
    with pytest.raises(ValueError, match=r"`path` must be a report .*other.json has no 'format_ve"):
        read_sidecar(path)


def test_of_averaged_and_raw_weights_in_one_file_the_raw_ones_are_measured(tmp_path: Path) -> None:
    callback = at_saves()
    averaging = EMAWeightAveraging(decay=0.99)
    fit(callback, averaging, ModelCheckpoint(tmp_path, every_n_train_steps=3, save_top_k=-1))
    for name, checkpoint in saved(tmp_path).items():
        beside = read_sidecar(tmp_path / f"{name}.hessian.json")
        raw, averaged = (
            true_eigenvalue(checkpoint[key]) for key in ("current_model_state", "state_dict")
        )
        assert beside["weights"] == "current"
        assert beside["largest"]["values"][0] == pytest.approx(raw, rel=1e-5)
        assert beside["largest"]["values"][0] != pytest.approx(averaged, rel=1e-4)


def test_weights_averaged_at_the_end_are_measured_for_the_checkpoint_that_holds_them(
    tmp_path: Path,
) -> None:
    class Averages(pl.Callback):
        """As stochastic weight averaging does, after our own end of training."""

        def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            for parameter in pl_module.parameters():
                parameter.data.mul_(0.5)

    callback = at_saves()
    fit(callback, Averages(), SavesAtTheEnd(tmp_path / "end.ckpt"))
    assert steps(callback) == [0, 8, 8]
    checkpoint = torch.load(tmp_path / "end.ckpt", weights_only=True)
    wanted = true_eigenvalue(checkpoint["state_dict"])
    assert float(callback.reports[-1].largest.values[0]) == pytest.approx(wanted, rel=1e-5)
    assert callback.reports[-1].ckpt_path == str(tmp_path / "end.ckpt")


class SavesAtTheEnd(SavesByHand):
    def on_train_batch_end(self, *_: Any) -> None:
        """Not in the middle."""

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.save_checkpoint(self.path)
