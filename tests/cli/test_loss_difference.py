"""Loss differences from the command line and for existing checkpoints."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import lightning.pytorch as pl
import pytest
from lightning.pytorch.cli import LightningCLI

from lightning_hessian import LossDifference, LossDifferenceReport, Perturbations, analyze
from lightning_hessian.cli import HessianCLI
from lightning_hessian.show import read_sidecar
from tests.helpers.checkpoints import ByEpochAndStep, fitted, numbers
from tests.helpers.difference import difference
from tests.helpers.fitting import loader, trainer

QUIET = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
SMALL = ["--trainer.enable_model_summary=false", "--trainer.logger=false"]


class Data(pl.LightningDataModule):
    def train_dataloader(self) -> object:
        return loader()

    def val_dataloader(self) -> object:
        return loader()


class Module(ByEpochAndStep):
    def validation_step(self, batch: object, batch_idx: int) -> None:
        return None


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["program"])
    monkeypatch.setenv("JSONARGPARSE_DEPRECATION_WARNINGS", "off")


def test_all_routes_to_a_checkpoint_give_the_same_bits(tmp_path: Path) -> None:
    perturbations = Perturbations(sigmas=(0.1,), count=4)
    options = {"num_samples": 20, "keep_losses": True, "perturbations": perturbations}
    during = difference(at_checkpoints=True, every_n_epochs=None, **options)
    fitted(tmp_path, ByEpochAndStep(), during)
    wanted = {r.ckpt_path: numbers(r) for r in during.reports if r.ckpt_path}
    assert len(wanted) == 2
    beside = {
        path: numbers(LossDifferenceReport.from_dict(read_sidecar(f"{path}.loss_difference.json")))
        for path in wanted
    }
    assert beside == wanted
    after = analyze(
        ByEpochAndStep(),
        tmp_path,
        callback=difference(**options),
        dataloaders=loader(),
        trainer=trainer(),
        sidecar=False,
        verbose=False,
    )
    # each route verifies in its first report, which costs more
    assert {r.ckpt_path: numbers(r) | {"cost": ""} for r in after} == {
        path: found | {"cost": ""} for path, found in wanted.items()
    }


def test_a_configuration_and_a_subcommand_measure_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(
        f"""
model: {__name__}.Module
data: {__name__}.Data
seed_everything: 1
trainer:
  max_epochs: 1
  callbacks:
    - class_path: lightning_hessian.LossDifference
      init_args:
        num_samples: 20
        sample_sizes: [1, 5, 19]
        thresholds: [0.01]
        perturbations: {{sigmas: [0.1], count: 4}}
        loss: {{batch_size: 4}}
        solver: {{max_hvps: 40}}
        held_out: true
        at_checkpoints: true
        on_error: raise
        max_overhead: null
    - class_path: lightning.pytorch.callbacks.ModelCheckpoint
      init_args: {{dirpath: {tmp_path / "saved"}}}
""",
        encoding="utf8",
    )
    here = [*QUIET, *SMALL, f"--trainer.default_root_dir={tmp_path}"]
    made = LightningCLI(args=["fit", f"--config={config}", *here])
    (callback,) = (c for c in made.trainer.callbacks if isinstance(c, LossDifference))
    assert callback.reports[0].differences.sample_sizes.tolist() == [1, 5, 19]
    assert callback.reports[0].thresholds == (0.01,)
    (ckpt,) = (tmp_path / "saved").glob("*.ckpt")
    beside = Path(f"{ckpt}.loss_difference.json")
    during = LossDifferenceReport.from_dict(read_sidecar(beside))
    assert during.held_out is not None
    assert during.neighbourhood[0].num_perturbations == 4
    beside.unlink()
    capsys.readouterr()
    HessianCLI(args=["analyze", f"--config={config}", f"--ckpt_path={ckpt}", *here])
    again = LossDifferenceReport.from_dict(read_sidecar(beside))
    # each analysis looks anew whether the loss is made of its samples' losses
    assert again.cost > during.cost
    assert numbers(replace(again, cost=during.cost)) == numbers(during)
    assert "k* at 0.01" in capsys.readouterr().out


def test_the_command_line_chooses_what_is_measured(tmp_path: Path) -> None:
    fitted(tmp_path, ByEpochAndStep(), max_epochs=1)
    (ckpt,) = tmp_path.glob("*.ckpt")
    HessianCLI(
        args=[
            *("analyze", f"--model={__name__}.Module", f"--data={__name__}.Data"),
            *(f"--ckpt_path={ckpt}", "--measure=loss_difference", "--trainer.max_epochs=1"),
            *("--loss_difference.num_samples=10", "--loss_difference.keep_losses=true"),
            *(*QUIET, *SMALL, f"--trainer.default_root_dir={tmp_path}"),
        ],
        seed_everything_default=False,
    )
    report = LossDifferenceReport.from_dict(read_sidecar(f"{ckpt}.loss_difference.json"))
    assert len(report.sample_losses) == 10
    assert not list(tmp_path.glob("*.hessian.json"))
