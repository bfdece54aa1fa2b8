"""Checkpoints that are saved in uncommon ways get the report of the weights in the file, too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import BatchSizeFinder, EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor
from torch.nn import functional as F

from lightning_hessian import HessianSpectrum, SpectrumReport
from lightning_hessian.show import read_sidecar
from tests.callbacks.test_checkpoints import KEY, Validated, at_saves, saved, true_eigenvalue
from tests.helpers.fitting import Classifier, loader, trainer
from tests.helpers.spectrum import steps


def beside(directory: Path) -> dict[str, SpectrumReport]:
    """The reports of a folder by the names of their checkpoints."""
    return {
        path.name.removesuffix(".hessian.json"): SpectrumReport.from_dict(read_sidecar(path))
        for path in directory.glob("*.hessian.json")
    }


class KeepsItsPast(Classifier):
    """Optimises by hand, and keeps its weights from before each step as Lightning advises."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.layer = self.network  # by this name Lightning looks for it
        self.saved_models: dict[int, dict[str, Tensor]] = {}

    def training_step(self, batch: Any, batch_idx: int) -> None:
        state = {name: value.clone() for name, value in self.layer.state_dict().items()}
        self.saved_models = {batch_idx: state}
        self.manual_backward(F.cross_entropy(self.layer(batch[0]), batch[1]))
        self.optimizers().step()
        self.optimizers().zero_grad()


def test_of_weights_from_before_a_step_by_hand_those_in_the_file_are_measured(
    tmp_path: Path,
) -> None:
    """They are at the step that follows, as Lightning saves them."""
    callback = at_saves(every_n_train_steps=3)
    saver = ModelCheckpoint(tmp_path, every_n_train_steps=3, save_top_k=-1)
    trainer(callback, saver, max_steps=4, enable_checkpointing=True).fit(KeepsItsPast(), loader())
    assert steps(callback) == [0, 3, 3, 4]
    before, after = callback.reports[2], callback.reports[1]
    (content,) = saved(tmp_path).values()
    state = {k: v for k, v in content["state_dict"].items() if k.startswith("network")}
    wanted = true_eigenvalue(state)
    assert float(before.largest.values[0]) == pytest.approx(wanted, rel=1e-5)
    assert float(after.largest.values[0]) != pytest.approx(wanted, rel=1e-4)
    (report,) = beside(tmp_path).values()
    assert report.largest.values.equal(before.largest.values)
    assert (
        content["callbacks"][KEY]["reports"][-1]["largest"]["values"]
        == before.largest.values.tolist()
    )


class SavesAmidValidation(pl.Callback):
    """Saves while the averaged weights have taken the place of the others."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def on_validation_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step > 0:
            trainer.save_checkpoint(self.directory / f"step={trainer.global_step}.ckpt")


@pytest.mark.sampled
@pytest.mark.parametrize("amid", [False, True])
def test_weights_that_give_way_to_an_average_in_validation_are_told_apart(
    amid: bool, tmp_path: Path
) -> None:
    # in the midst Lightning's file has the two exchanged; its own name for what is measured stays
    saver = ModelCheckpoint(tmp_path, monitor="val_loss", save_top_k=-1)
    callback = at_saves()
    others = [SavesAmidValidation(tmp_path)] if amid else [saver]
    fit = {"val_check_interval": 2, "limit_val_batches": 1, "num_sanity_val_steps": 0}
    trainer(
        callback, EMAWeightAveraging(decay=0.5), *others, enable_checkpointing=not amid, **fit
    ).fit(Validated(), loader(), loader())
    files, reports = saved(tmp_path), beside(tmp_path)
    assert sorted(content["global_step"] for content in files.values()) == [2, 4]
    for name, content in files.items():
        current, other = (
            true_eigenvalue(content[key]) for key in ("current_model_state", "state_dict")
        )
        measured = float(reports[name].largest.values[0])
        assert reports[name].weights == "current"
        # a few products find it to four digits
        assert measured == pytest.approx(current, rel=5e-5)
        assert measured != pytest.approx(other, rel=1e-4)


def test_a_search_for_the_batch_size_is_not_measured(tmp_path: Path) -> None:
    class Sized(Classifier):
        batch_size = 2

        def train_dataloader(self) -> Any:
            return loader(batch_size=self.batch_size)

    callback = at_saves()
    finder = BatchSizeFinder(init_val=4, max_trials=1, steps_per_trial=2)
    trainer(finder, callback, default_root_dir=tmp_path).fit(module := Sized())
    assert module.batch_size == 4
    assert steps(callback) == [0, 7]
    assert not list(tmp_path.rglob("*.json"))


def test_the_trainer_keeps_a_saver_of_its_own(tmp_path: Path) -> None:
    callback = at_saves()
    fit = trainer(callback, enable_checkpointing=True, default_root_dir=tmp_path)
    assert type(fit.checkpoint_callback) is ModelCheckpoint
    fit.fit(Classifier(), loader())
    (path,) = tmp_path.rglob("*.ckpt")
    assert float(beside(path.parent)[path.name].largest.values[0]) == pytest.approx(
        true_eigenvalue(torch.load(path, weights_only=True)["state_dict"]), rel=1e-5
    )


class RestoresLate(SingleDeviceStrategy):
    """Loads a checkpoint after it was set up, as strategies do that shard the module."""

    @property
    def restore_checkpoint_after_setup(self) -> bool:
        return True


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_a_strategy_that_restores_after_its_setup_has_the_history_too(tmp_path: Path) -> None:
    def fitted(**options: Any) -> HessianSpectrum:
        callback = at_saves()
        saver = ModelCheckpoint(tmp_path, every_n_train_steps=4, save_top_k=-1)
        strategy = RestoresLate(torch.device("cpu"))
        fit = trainer(callback, saver, strategy=strategy, enable_checkpointing=True, **options)
        fit.fit(Classifier(), loader(), ckpt_path=next(tmp_path.glob("*.ckpt"), None))
        return callback

    first, second = fitted(max_epochs=1), fitted(max_epochs=2)
    assert steps(first) == [0, 4]
    # the weights at step 4 are those of the checkpoint, which holds their report
    assert steps(second) == [0, 4, 8]
    assert second.reports[1].largest.values.equal(first.reports[1].largest.values)
