"""Post-hoc from a file, in training, from the file's own state and from its JSON: one and the same.

In training the module's hooks and the Trainer's counters have run on; from a file they come back.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import nn

from lightning_hessian import HessianSpectrum, Krylov, SpectrumReport
from lightning_hessian.show import read_sidecar
from tests.helpers.checkpoints import ByEpochAndStep, analyzed, fitted, numbers
from tests.helpers.fitting import Classifier, loader, trainer

# the edge is of a running optimiser alone
FULL: dict[str, Any] = {
    "num_samples": 12,
    "solver": Krylov(max_hvps=12),
    "on_error": "raise",
    "edge": False,
}


def normalised() -> nn.Module:
    return nn.Sequential(
        nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(0.3), nn.Linear(6, 3)
    )


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("mode", "precision"), [("eval", "32-true"), ("train", "64-true"), ("train", "bf16-mixed")]
)
def test_all_routes_give_the_same_bits_for_a_loss_that_depends_on_epoch_and_step(
    tmp_path: Path, mode: Any, precision: Any
) -> None:
    # the density once: its figure takes longer than all the rest
    options = {"mode": mode, "density": mode == "eval", **FULL}
    during = HessianSpectrum(at_checkpoints=True, every_n_epochs=None, max_overhead=None, **options)
    fitted(tmp_path, ByEpochAndStep(normalised()), during, precision=precision)
    saved = [r for r in during.reports if r.ckpt_path]
    assert [(r.epoch, r.global_step) for r in saved] == [(0, 3), (1, 6)]
    wanted = {r.ckpt_path: numbers(r) for r in saved}

    after = analyzed(
        ByEpochAndStep(normalised()),
        tmp_path,
        callback=HessianSpectrum(**options),
        trainer=trainer(precision=precision),
    )
    assert {r.ckpt_path: numbers(r) for r in after} == wanted

    for path, expected in wanted.items():
        assert numbers(SpectrumReport.from_dict(read_sidecar(f"{path}.hessian.json"))) == expected
        state = torch.load(path, weights_only=True)["callbacks"][during.state_key]
        assert numbers(SpectrumReport.from_dict(state["reports"][-1])) == expected


def test_files_that_hold_weights_only_give_the_same(tmp_path: Path) -> None:
    full, light = tmp_path / "full", tmp_path / "light"
    for folder in (full, light):
        torch.manual_seed(3)
        fitted(folder, ByEpochAndStep(), saver={"save_weights_only": folder is light})
    content = torch.load(next(iter(sorted(light.iterdir()))), weights_only=True)
    assert "optimizer_states" not in content
    both = [analyzed(ByEpochAndStep(), folder) for folder in (full, light)]
    assert [numbers(r) for r in both[0]] == [numbers(r) for r in both[1]]


def test_epoch_and_step_are_those_of_the_file_where_it_has_no_loops(tmp_path: Path) -> None:
    fitted(tmp_path / "with", ByEpochAndStep())
    (tmp_path / "without").mkdir()
    for path in (tmp_path / "with").iterdir():
        content = torch.load(path, weights_only=True)
        del content["loops"]
        torch.save(content, tmp_path / "without" / path.name)
    both = [analyzed(ByEpochAndStep(), tmp_path / name) for name in ("with", "without")]
    assert [(r.epoch, r.global_step) for r in both[1]] == [(0, 3), (1, 6)]
    assert [numbers(r) for r in both[0]] == [numbers(r) for r in both[1]]


def test_each_file_is_measured_from_the_state_that_the_model_was_given_with(tmp_path: Path) -> None:
    class Counts(Classifier):
        """A hook moves what no checkpoint holds: from file to file it must not add up."""

        def __init__(self) -> None:
            super().__init__()
            self.count = 0

        def on_train_epoch_start(self) -> None:
            self.count += 1

        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            return super().training_step(batch, batch_idx) * self.count

    fitted(tmp_path, Counts(), max_epochs=1)
    (path,) = tmp_path.iterdir()
    once = analyzed(Counts(), path)
    thrice = analyzed(Counts(), _copies(path, 3))
    assert {r.loss for r in thrice} == {once[0].loss}


def _copies(path: Path, count: int) -> list[Path]:
    """The same weights at the same step with another entry, so that each is measured."""
    copies = []
    for index in range(count):
        content = torch.load(path, weights_only=True) | {"remark": index}
        copies.append(path.with_name(f"copy{index}.ckpt"))
        torch.save(content, copies[-1])
    return copies


def test_a_module_of_the_other_namespace_gives_the_same(tmp_path: Path) -> None:
    other = pytest.importorskip("pytorch_lightning")

    class Other(other.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = Classifier().network

        training_step = Classifier.training_step

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    fitted(tmp_path, Classifier())
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    host = other.Trainer(accelerator="cpu", max_epochs=1, **quiet)
    theirs, ours = (
        analyzed(kind(), tmp_path, trainer=run)
        for kind, run in ((Other, host), (Classifier, trainer()))
    )
    assert [numbers(r) for r in theirs] == [numbers(r) for r in ours]


def test_data_of_a_datamodule_and_its_state_come_back(tmp_path: Path) -> None:
    class Data(pl.LightningDataModule):
        scale = 1.0

        def state_dict(self) -> dict[str, Any]:
            return {"scale": 3.0}

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            self.scale = state_dict["scale"]

        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            return batch[0] * self.scale, batch[1]

        def train_dataloader(self) -> Any:
            return loader()

    fitted(tmp_path, Classifier(), max_epochs=1)
    (path,) = tmp_path.iterdir()
    torch.save(torch.load(path, weights_only=True) | {Data.__qualname__: {"scale": 3.0}}, path)
    data = Data()
    (report,) = analyzed(Classifier(), path, dataloaders=None, datamodule=data)

    class Scaled(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            return super().training_step((batch[0] * 3.0, batch[1]), batch_idx)

    (expected,) = analyzed(Scaled(), path)
    assert report.loss == expected.loss
    assert data.scale == 1.0
