"""One file's trouble is its own, what was given stays as it was, and everything is written."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn

from lightning_hessian import HessianSpectrum, Krylov, Loss, analyze
from lightning_hessian.errors import RefusedError, UnreadableCheckpointError
from lightning_hessian.fit import frozen_sample
from tests.helpers.checkpoints import ByEpochAndStep, analyzed, fitted, numbers
from tests.helpers.events import Events
from tests.helpers.fitting import Classifier, loader, trainer
from tests.helpers.spectrum import spectrum


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Steps 3 and 6, and the latter once more as ``last.ckpt``."""
    made = tmp_path / "checkpoints"
    fitted(made, ByEpochAndStep(), saver={"save_last": True})
    return made


def test_what_cannot_be_read_is_named_and_the_others_are_done(folder: Path) -> None:
    (folder / "broken.ckpt").write_bytes((folder / "last.ckpt").read_bytes()[:3000])
    fitted(folder / "foreign", Classifier(nn.Linear(4, 3)), max_epochs=1)
    with pytest.warns(UserWarning, match="is skipped") as warned:
        reports = analyzed(ByEpochAndStep(), folder)
    names = [Path(str(r.ckpt_path)).name for r in reports]
    assert names[:3] == ["epoch=0-step=3.ckpt", "epoch=1-step=6.ckpt", "last.ckpt"]
    assert [r.failure for r in reports[:3]] == [None] * 3
    assert set(names[3:]) == {"broken.ckpt", "epoch=0-step=3.ckpt"}
    reasons = " ".join(str(r.failure) for r in reports[3:])
    assert "it is damaged, cut short" in reasons
    assert "none of its weights is one of ByEpochAndStep" in reasons
    messages = [str(w.message) for w in warned]
    assert all(any(str(r.ckpt_path) in m for m in messages) for r in reports[3:])


def test_a_foreign_file_leaves_no_trace_in_the_numbers_of_the_next(folder: Path) -> None:
    alone = analyzed(ByEpochAndStep(), folder / "last.ckpt")
    content = torch.load(folder / "last.ckpt", weights_only=True)
    content["state_dict"] = {
        "network.0.weight": torch.ones(6, 4),
        "network.2.weight": torch.ones(5, 5),
    }
    content["global_step"] = 1
    torch.save(content, folder / "first.ckpt")
    with pytest.warns(UserWarning, match="not those of this ByEpoch.*size mismatch"):
        reports = analyzed(ByEpochAndStep(), [folder / "first.ckpt", folder / "last.ckpt"])
    assert numbers(reports[0]) == numbers(alone[0])


def test_none_readable_is_an_error_that_names_all(tmp_path: Path) -> None:
    names = ["one.ckpt", "two.ckpt"]
    for name in names:
        (tmp_path / name).write_bytes(b"junk")
    with (
        pytest.warns(UserWarning, match="is skipped"),
        pytest.raises(
            UnreadableCheckpointError,
            match=r"none of the checkpoints can be read:\n.*one.ckpt: it is.*\n.*two.ckpt: it is",
        ),
    ):
        analyzed(Classifier(), tmp_path)


def test_equal_weights_are_measured_once_and_listed_twice(folder: Path) -> None:
    ours = spectrum()
    _, sixth, last = analyzed(ByEpochAndStep(), folder, callback=ours)
    assert len(ours.reports) == 2
    assert numbers(sixth) == numbers(last)
    assert Path(str(last.ckpt_path)).name == "last.ckpt"


def test_equal_weights_at_another_step_are_measured_again(folder: Path) -> None:
    content = torch.load(folder / "last.ckpt", weights_only=True)
    content["epoch"] = content["loops"]["fit_loop"]["epoch_progress"]["current"]["completed"] = 7
    torch.save(content, folder / "last.ckpt")
    _, sixth, last = analyzed(ByEpochAndStep(), folder)
    assert (sixth.epoch, last.epoch) == (1, 7)
    assert sixth.loss < last.loss


def test_a_failed_measurement_is_of_its_file_alone(folder: Path) -> None:
    class FailsLater(ByEpochAndStep):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            loss = super().training_step(batch, batch_idx)
            return loss.expand(2) if self.global_step == 3 else loss

    with pytest.warns(UserWarning, match="single number, got shape"):
        first, second, last = analyzed(FailsLater(), folder, callback=spectrum(on_error="warn"))
    assert first.failure is not None
    assert first.failure.startswith("RefusedError: the training loss must be a single number")
    assert (first.global_step, second.failure, last.failure) == (3, None, None)
    with pytest.raises(RefusedError, match="single number"):
        analyzed(FailsLater(), folder, callback=spectrum(on_error="raise"))


def test_a_sample_grows_as_far_as_it_takes_whatever_the_limit(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # there is no training whose time would be shared
    monkeypatch.setattr(frozen_sample, "USUAL", 6)
    options: dict[str, Any] = {
        "num_samples": "auto",
        "max_overhead": 1e-9,
        "loss": Loss(batch_size=2),
        "solver": Krylov(max_hvps=8, sampling_rtol=1e-3),
    }
    for report in analyzed(ByEpochAndStep(), folder, callback=spectrum(**options)):
        assert report.num_samples == 26
        assert not any("`max_overhead` allows no" in note for note in report.notes)


def test_what_was_given_is_left_as_it_was(folder: Path) -> None:
    class Watches(ByEpochAndStep):
        steps_taken = 0

        def configure_callbacks(self) -> list[pl.Callback]:
            return [Raises()]

        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            self.steps_taken += 1

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            raise AssertionError("no validation is wanted")

        def val_dataloader(self) -> Any:
            return loader()

    class Raises(pl.Callback):
        def on_train_start(self, *_: Any) -> None:
            raise AssertionError("no callback of the user's is wanted")

    module = Watches()
    weights = {name: value.clone() for name, value in module.state_dict().items()}
    saver = ModelCheckpoint(folder / "not_made", every_n_train_steps=1)
    run = trainer(Raises(), saver, enable_checkpointing=True)
    callbacks = list(run.callbacks)
    content = {path: path.read_bytes() for path in folder.iterdir()}
    analyzed(module, folder, trainer=run)
    assert all(weights[name].equal(value) for name, value in module.state_dict().items())
    assert (module.steps_taken, run.global_step, run.current_epoch) == (0, 0, 0)
    assert (run.callbacks, run.limit_val_batches) == (callbacks, 1.0)
    assert isinstance(module.configure_callbacks()[0], Raises)
    assert {path: path.read_bytes() for path in folder.iterdir()} == content


def test_each_report_stands_beside_its_checkpoint(folder: Path) -> None:
    reports = analyzed(ByEpochAndStep(), folder, sidecar=True)
    for report in reports:
        values = json.loads(Path(f"{report.ckpt_path}.hessian.json").read_text(encoding="utf8"))
        assert values["ckpt_path"] == report.ckpt_path
        assert (values["loss"], values["weights"]) == (report.loss, "current")
    assert len(list(folder.glob("*.json"))) == len(reports) == 3


def test_reports_of_averaged_weights_stand_beside_those_of_the_raw_ones(tmp_path: Path) -> None:
    fitted(tmp_path, Classifier(), EMAWeightAveraging(decay=0.5), max_epochs=1)
    (path,) = tmp_path.iterdir()
    for weights in ("current", "averaged"):
        analyzed(Classifier(), path, weights=weights, sidecar=True)
    files = tmp_path.glob("*.json")
    found = {file.name.partition(".ckpt.")[2]: json.loads(file.read_text()) for file in files}
    assert {name: values["weights"] for name, values in found.items()} == {
        "hessian.json": "current",
        "hessian.averaged.json": "averaged",
    }


def test_a_folder_that_cannot_be_written_costs_a_warning(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, *_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        with pytest.warns(UserWarning, match="could not be written beside it.*`sidecar=False`"):
            reports = analyzed(ByEpochAndStep(), folder, sidecar=True)
    assert [r.failure for r in reports] == [None] * 3


def test_points_in_tensorboard_are_at_the_steps_of_the_files(folder: Path, tmp_path: Path) -> None:
    logger = TensorBoardLogger(str(tmp_path), name=None, version="run")
    full = HessianSpectrum(num_samples=8, custom_scalars=False, solver=Krylov(max_hvps=8))
    reports = analyzed(ByEpochAndStep(), folder, callback=full, trainer=trainer(logger=logger))
    events = Events(tmp_path / "run")
    points = events.scalars("hessian/")
    assert [step for step, _ in points["hessian/eig_1"]] == [3, 6]
    assert [value for _, value in points["hessian/loss"]] == pytest.approx(
        [r.loss for r in reports[:2]]
    )
    assert [step for step, _ in events.images("hessian/spectrum")] == [3, 6]


def test_the_table_and_the_bar_are_shown_unless_told_otherwise(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    analyzed(ByEpochAndStep(), folder, trainer=trainer(enable_progress_bar=True), verbose=True)
    # into what is no terminal no bar is drawn
    shown = capsys.readouterr()
    assert "ckpt" in shown.out
    assert "Checkpoints" not in shown.err
    monkeypatch.setattr(type(sys.stderr), "isatty", lambda _: True, raising=False)
    analyzed(ByEpochAndStep(), folder, trainer=trainer(enable_progress_bar=True), verbose=True)
    shown = capsys.readouterr()
    heading, *lines = shown.out.splitlines()
    assert heading.split()[:2] == ["step", "loss"]
    assert [line.split()[0] for line in lines if ".ckpt" in line] == ["3", "6", "6"]
    assert "Checkpoints: 100%" in shown.err
    assert "Hessian:" in shown.err
    analyzed(ByEpochAndStep(), folder, trainer=trainer(enable_progress_bar=True), verbose=False)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Checkpoints" not in shown.err


def test_a_partial_checkpoint_is_measured_with_a_note_where_the_module_allows_it(
    folder: Path,
) -> None:
    content = torch.load(folder / "last.ckpt", weights_only=True)
    del content["state_dict"]["network.0.bias"]
    torch.save(content, folder / "last.ckpt")
    module = ByEpochAndStep()
    module.strict_loading = False
    (report,) = analyzed(module, folder / "last.ckpt")
    assert "holds 3 of the 4 entries of the module's state" in " ".join(report.notes)
    content["state_dict"] = {"other": torch.zeros(1)}
    torch.save(content, folder / "last.ckpt")
    with (
        pytest.warns(UserWarning, match="is skipped"),
        pytest.raises(UnreadableCheckpointError, match="none of its weights is one of ByEpochAnd"),
    ):
        analyzed(module, folder / "last.ckpt")


def test_what_a_hook_raises_about_one_file_is_its_reason(folder: Path) -> None:
    class Particular(ByEpochAndStep):
        def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            if checkpoint["global_step"] == 3:
                raise KeyError("vocabulary")

    with pytest.warns(UserWarning, match="is skipped: KeyError: 'vocabulary'"):
        reports = analyzed(Particular(), folder)
    assert [r.failure for r in reports] == [None, None, "KeyError: 'vocabulary'"]


def test_a_signal_ends_the_sweep_and_what_is_missing_is_said(folder: Path) -> None:
    class Told(ByEpochAndStep):
        def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            # as the handler of SIGTERM does
            self.trainer._signal_connector.received_sigterm = checkpoint["global_step"] == 6

    reports = analyzed(Told(), folder)
    assert [r.failure for r in reports] == [None, *2 * ["the process was told to end before this "
                                                        "checkpoint was measured"]]  # fmt: skip
    assert len({r.ckpt_path for r in reports}) == 3


def test_without_a_trainer_one_device_and_tensorboard_are_taken(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options: dict[str, Any] = {"callback": spectrum(), "verbose": False, "sidecar": False}
    reports = analyze(ByEpochAndStep(), folder, dataloaders=loader(), **options)
    assert [r.failure for r in reports] == [None] * 3
    assert list((tmp_path / "lightning_logs" / "version_0").glob("events*"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"datamodule": pl.LightningDataModule()}, "`datamodule` and `dataloaders` exclude each"),
        ({"trainer": trainer(max_steps=0)}, "`trainer` ended its fit before it began: give a fr"),
        ({"trainer": pl.Trainer(barebones=True)}, "`trainer` must not be barebones"),
        ({"trainer": trainer(devices=2, strategy="ddp_fork")}, "must not spawn its processes from"),
        ({"trainer": None, "model": nn.Linear(1, 1)}, "`model` must be a LightningModule, got Lin"),
    ],
)
def test_arguments_without_a_meaning_are_refused(
    folder: Path, options: dict[str, Any], message: str
) -> None:
    model = options.pop("model", ByEpochAndStep())
    with pytest.raises(ValueError, match=message):
        analyzed(model, folder, **options)
