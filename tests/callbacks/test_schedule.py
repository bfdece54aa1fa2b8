"""When a fit is measured; its default fit here has four steps per epoch."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import LearningRateFinder, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.tuner import Tuner

from lightning_hessian import Krylov
from lightning_hessian.fit import Schedule
from tests.helpers.fitting import Classifier, loader, trainer
from tests.helpers.spectrum import spectrum, steps


class Validated(Classifier):
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", super().training_step(batch, batch_idx))


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, [0, 4, 8, 12, 16]),
        ({"every_n_epochs": 2}, [0, 8, 16]),
        ({"every_n_epochs": 3}, [0, 12, 16]),
        ({"every_n_epochs": None}, [0, 16]),
        ({"every_n_epochs": None, "every_n_train_steps": 6}, [0, 6, 12, 16]),
        ({"every_n_epochs": 2, "every_n_train_steps": 6}, [0, 6, 8, 12, 16]),
        ({"every_n_epochs": 1, "every_n_train_steps": 4}, [0, 4, 8, 12, 16]),
    ],
)
def test_measures_at_the_ends_and_when_due(options: dict[str, Any], wanted: list[int]) -> None:
    callback = spectrum(**options)
    trainer(callback, max_epochs=4).fit(Classifier(), loader())
    assert steps(callback) == wanted


def test_steps_are_those_of_the_optimiser_under_accumulation() -> None:
    callback = spectrum(every_n_epochs=None, every_n_train_steps=1)
    # batches 3 + 1 in each epoch of four: two optimiser steps
    trainer(callback, max_epochs=2, accumulate_grad_batches=3).fit(Classifier(), loader())
    assert steps(callback) == [0, 1, 2, 3, 4]


def test_a_fit_stopped_in_the_middle_is_measured_where_it_stopped() -> None:
    callback = spectrum()
    trainer(callback, max_steps=6, max_epochs=-1).fit(Classifier(), loader())
    assert steps(callback) == [0, 4, 6]


def test_a_fit_without_steps_is_measured_once() -> None:
    callback = spectrum()
    trainer(callback, max_epochs=1).fit(Classifier(lr=0.0), loader())
    assert steps(callback) == [0, 4]  # the same weights at another step are another report
    again = spectrum()
    trainer(again, max_steps=0).fit(Classifier(), loader())
    assert steps(again) == []  # Lightning skips such a fit before it starts


def test_checkpoints_are_measured_at_the_steps_of_their_files(tmp_path: Path) -> None:
    callback = spectrum(every_n_epochs=None, at_checkpoints=True)
    saver = ModelCheckpoint(tmp_path, every_n_train_steps=3, save_top_k=-1, save_last=True)
    trainer(callback, saver, max_epochs=2, enable_checkpointing=True).fit(Classifier(), loader())
    assert steps(callback) == [0, 3, 6, 8]
    saved = {torch.load(path, weights_only=True)["global_step"] for path in tmp_path.glob("*.ckpt")}
    assert saved == {3, 6}


def test_a_checkpoint_saved_inside_validation_is_measured_as_in_training(tmp_path: Path) -> None:
    at_saves = spectrum(every_n_epochs=None, at_checkpoints=True)
    at_steps = spectrum(every_n_epochs=None, every_n_train_steps=2)
    saver = ModelCheckpoint(tmp_path, monitor="val_loss", save_top_k=-1)
    fit = trainer(at_saves, saver, enable_checkpointing=True, val_check_interval=2)
    torch.manual_seed(0)
    fit.fit(Validated(), loader(), loader())
    torch.manual_seed(0)
    trainer(at_steps, val_check_interval=2).fit(Validated(), loader(), loader())
    assert steps(at_saves) == steps(at_steps) == [0, 2, 4]
    for one, other in zip(at_saves.reports, at_steps.reports, strict=True):
        assert one.largest.values.equal(other.largest.values)
        assert one.loss == other.loss


def test_checkpoints_outside_training_are_not_measured(tmp_path: Path) -> None:
    class SavesInSanityCheck(pl.Callback):
        def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            if trainer.sanity_checking:
                trainer.save_checkpoint(tmp_path / "sane.ckpt")

    callback = spectrum(every_n_epochs=None, at_checkpoints=True)
    fit = trainer(callback, SavesInSanityCheck(), num_sanity_val_steps=1)
    fit.fit(Validated(), loader(), loader())
    assert steps(callback) == [0, 4]
    fit.save_checkpoint(tmp_path / "after.ckpt")
    assert steps(callback) == [0, 4]
    assert (tmp_path / "sane.ckpt").exists()


@pytest.mark.filterwarnings("ignore:.*`training_type_plugin.*")
def test_the_learning_rate_finder_is_not_measured(tmp_path: Path) -> None:
    callback = spectrum(every_n_train_steps=1, at_checkpoints=True)
    module = Classifier()
    fit = trainer(callback, default_root_dir=tmp_path)
    found = Tuner(fit).lr_find(module, loader(), num_training=3, update_attr=False)
    assert found is not None
    assert callback.reports == []
    fit.fit(module, loader())
    assert steps(callback) == [0, 1, 2, 3, 4]
    inside = spectrum(at_checkpoints=True)
    finder = LearningRateFinder(num_training_steps=3)
    trainer(inside, finder, default_root_dir=tmp_path).fit(Classifier(), loader())
    assert steps(inside) == [0, 4]


def test_weights_exchanged_at_the_same_step_are_measured_again() -> None:
    class Exchanges(pl.Callback):
        def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            for parameter in pl_module.parameters():
                parameter.data.mul_(2.0)

    callback = spectrum()
    trainer(Exchanges(), callback).fit(Classifier(), loader())
    assert steps(callback) == [0, 4, 4]
    assert callback.reports[1].loss != callback.reports[2].loss


def test_fast_dev_run_makes_one_tiny_measurement(tmp_path: Path) -> None:
    callback = spectrum(
        trace=True, density=True, at_checkpoints=True, solver=Krylov(max_hvps=100, rtol=1e-6)
    )
    logger = TensorBoardLogger(tmp_path)
    saver = ModelCheckpoint(tmp_path, save_last=True)
    fit = trainer(callback, saver, fast_dev_run=True, logger=logger, enable_checkpointing=True)
    fit.fit(Classifier(), loader())
    first, last = callback.reports
    assert (first.global_step, last.global_step) == (0, 1)
    assert first.num_samples == last.num_samples == 8
    assert first.num_hvps <= 8
    assert last.num_hvps <= 8
    # Lightning itself saves the last checkpoint even here
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["last.ckpt"]


@pytest.mark.filterwarnings("ignore:.*Trainer.barebones=True.*")
def test_barebones_warns_and_skips() -> None:
    callback = spectrum()
    bare = pl.Trainer(barebones=True, accelerator="cpu", max_epochs=1, callbacks=[callback])

    class Silent(Classifier):
        def log(self, *_: Any, **__: Any) -> None:
            """Of no use there."""

    with pytest.warns(UserWarning, match=r"HessianSpectrum does nothing in `Trainer\(barebones"):
        bare.fit(Silent(), loader())
    assert callback.reports == []


class AlsoPredicts(Validated):
    test_step = Validated.validation_step

    def predict_step(self, batch: Any, batch_idx: int) -> Any:
        return self.network(batch[0])


@pytest.mark.parametrize("entry", ["validate", "test", "predict"])
def test_validating_testing_and_predicting_measure_nothing_and_leave_a_later_fit_its_own(
    entry: str,
) -> None:
    callback, module = spectrum(at_checkpoints=True), AlsoPredicts()
    fit = trainer(callback, max_epochs=1)
    quiet = {} if entry == "predict" else {"verbose": False}
    getattr(fit, entry)(module, loader(), **quiet)
    assert callback.reports == []
    fit.fit(module, loader(), loader())
    assert steps(callback) == [0, 4]
    getattr(fit, entry)(module, loader(), **quiet)
    assert steps(callback) == [0, 4]


@pytest.mark.parametrize("name", ["every_n_epochs", "every_n_train_steps"])
@pytest.mark.parametrize("interval", [0, -1, 1.5, True])
def test_an_interval_must_be_a_positive_whole_number(name: str, interval: Any) -> None:
    intervals = {"every_n_epochs": None, "every_n_train_steps": None, name: interval}
    with pytest.raises(ValueError, match=f"`{name}` must be .* at least 1, or None.*{interval}"):
        Schedule(**intervals, at_checkpoints=False)


@pytest.mark.parametrize("shared", [False, True])
def test_a_fit_inside_a_fit_needs_a_callback_of_its_own(shared: bool) -> None:
    outer = spectrum(every_n_train_steps=1)
    inner = outer if shared else spectrum(every_n_train_steps=1)

    class FitsWithin(pl.Callback):
        def on_train_batch_end(self, around: pl.Trainer, *_: Any) -> None:
            if around.global_step == 2:
                trainer(inner).fit(Classifier(), loader())

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer(outer, FitsWithin()).fit(Classifier(), loader())
    said = [w for w in caught if "was measuring another fit" in str(w.message)]
    assert len(said) == shared
    assert steps(inner) == ([0, 1, 2] if shared else []) + [0, 1, 2, 3, 4]
    assert shared or steps(outer) == [0, 1, 2, 3, 4]
