"""Configurations and checkpoints of programs that fix their classes, and so never name them."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.cli import LightningCLI
from torch import nn

from lightning_hessian.cli import HessianCLI
from lightning_hessian.show import read_sidecar
from tests.cli.test_analyze import CHEAP, QUIET, as_arguments
from tests.helpers.fitting import Classifier, classification_data, loader
from tests.helpers.programs import run_program


class Net(Classifier):
    """Whose size is told by its hyperparameters."""

    def __init__(self, width: int = 3, lr: float = 0.1, table: Any = None) -> None:
        super().__init__(nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, 3)), lr=lr)
        self.save_hyperparameters(ignore=["table"])
        self.save_hyperparameters({"note": "of no argument"})


class Data(pl.LightningDataModule):
    def __init__(self, count: int = 26) -> None:
        super().__init__()
        self.count = count

    def train_dataloader(self) -> Any:
        return loader(classification_data(self.count))


class Bare(pl.LightningDataModule):
    """Without arguments, so that a configuration has nothing to say of it."""

    def train_dataloader(self) -> Any:
        return loader()


MODEL, DATA = f"--model={__name__}.Net", f"--data={__name__}.Data"
COMMON = ["--trainer.logger=false", *as_arguments("spectrum", CHEAP)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of ``LightningCLI(Net, Data)``."""
    folder = tmp_path_factory.mktemp("fixed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["program"])
        patch.setenv("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
        LightningCLI(
            Net,
            Data,
            args=[
                *("fit", "--seed_everything=0", "--model.width=5", "--data.count=20"),
                *("--trainer.max_epochs=1", "--trainer.log_every_n_steps=1", *QUIET),
                *("--trainer.enable_model_summary=false", "--trainer.logger=CSVLogger"),
                *(f"--trainer.logger.save_dir={folder}", "--trainer.logger.name=null"),
                "--trainer.logger.version=run",
            ],
        )
    return folder / "run"


def file_of(run: Path) -> Path:
    (ckpt,) = (run / "checkpoints").glob("*.ckpt")
    return ckpt


@pytest.mark.parametrize("order", ["before", "after"])
@pytest.mark.parametrize("path", ["folder", "file"])
def test_a_configuration_is_read_once_its_classes_are_given(
    order: str, path: str, run: Path
) -> None:
    config = f"--config={run}/config.yaml"
    classes = [config, MODEL, DATA] if order == "after" else [MODEL, DATA, config]
    ckpt = run if path == "folder" else file_of(run)
    made = HessianCLI(args=["analyze", *classes, f"--ckpt_path={ckpt}", *COMMON])
    assert type(made.model) is Net
    assert made.model.hparams["width"] == 5
    assert made.datamodule.count == 20
    report = read_sidecar(f"{file_of(run)}.hessian.json")
    assert report["failure"] is None
    assert report["num_parameters"] == 5 * 5 + 6 * 3


@pytest.mark.parametrize("command", ["analyze", "search"])
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            [],
            r"error: `model` in .*config.yaml has no class_path, .* --model your_package.Net "
            r"--data your_package.Data. Or let that program be a lightning_hessian.cli.HessianCLI",
        ),
        ([MODEL], r"error: `data` in .*config.yaml has no class_path, .* is: --data your_package"),
        (
            ["--data", "a.Data"],
            r"error: `model` in .*config.yaml .* is: --model your_package.N",
        ),
    ],
)
def test_without_its_classes_it_is_said_at_once_what_to_give(
    command: str, given: list[str], message: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        HessianCLI(args=[command, "--config", f"{run}/config.yaml", f"--ckpt_path={run}", *given])
    assert ended.value.code == 2
    assert re.search(message, capsys.readouterr().err)


def test_a_program_that_fixes_one_class_asks_for_the_other_alone(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["analyze", "--config", f"{run}/config.yaml", f"--ckpt_path={run}", *COMMON]
    with pytest.raises(SystemExit) as ended:
        HessianCLI(Net, args=arguments)
    assert ended.value.code == 2
    assert "is: --data your_package.Data." in capsys.readouterr().err
    made = HessianCLI(Net, args=[*arguments, DATA])
    assert made.model.hparams["width"] == 5
    # of a base class a configuration may be of arguments alone
    made = HessianCLI(Net, subclass_mode_model=True, args=[*arguments, DATA])
    assert made.model.hparams["width"] == 5


def test_a_configuration_that_is_none_is_the_parsers_to_refuse(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.yaml"
    for content in ("a: [", "- 1", "model: 3"):
        path.write_text(content, encoding="utf8")
        with pytest.raises(SystemExit) as ended:
            HessianCLI(args=["analyze", f"--config={path}", "--ckpt_path=a"])
        assert ended.value.code == 2
        assert "class_path, as a program" not in capsys.readouterr().err


@pytest.mark.parametrize("path", ["folder", "file"])
def test_hyperparameters_in_a_file_are_those_of_the_class_that_is_given(
    path: str, run: Path
) -> None:
    ckpt = f"--ckpt_path={run if path == 'folder' else file_of(run)}"
    epochs = ["--trainer.max_epochs=1", *QUIET]
    made = HessianCLI(args=["analyze", MODEL, DATA, ckpt, *COMMON, *epochs])
    # one of no argument is left out, as by `load_from_checkpoint`
    assert made.model.hparams["width"] == 5
    assert "note" in made.model.hparams


def test_hyperparameters_that_do_not_fit_say_what_to_give(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = torch.load(file_of(run), weights_only=True)
    path = tmp_path / "odd.ckpt"
    torch.save(content | {"hyper_parameters": {"width": "wide"}}, path)
    with pytest.raises(SystemExit) as ended:
        HessianCLI(args=["analyze", MODEL, DATA, f"--ckpt_path={path}", *COMMON])
    assert ended.value.code == 2
    assert re.search(
        r"hyperparameters in .*odd.ckpt do not fit .*Net: give the class that was trained as "
        r"`--model`, or its arguments by `--config`\.",
        capsys.readouterr().err,
    )


def test_a_class_with_nothing_to_configure_needs_no_section(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    LightningCLI(
        Classifier,
        Bare,
        args=[
            *("fit", "--seed_everything=0", "--trainer.max_epochs=1", *QUIET),
            *("--trainer.enable_model_summary=false", f"--trainer.default_root_dir={tmp_path}"),
            *("--trainer.log_every_n_steps=1", "--trainer.logger=CSVLogger"),
            f"--trainer.logger.save_dir={tmp_path}",
        ],
    )
    (config,) = tmp_path.rglob("config.yaml")
    classes = ["--model=tests.helpers.fitting.Classifier", f"--data={__name__}.Bare"]
    HessianCLI(args=["analyze", f"--config={config}", *classes, f"--ckpt_path={tmp_path}", *COMMON])
    (beside,) = tmp_path.rglob("*.hessian.json")
    assert read_sidecar(beside)["failure"] is None


@pytest.mark.slow
def test_through_the_real_program_there_is_no_traceback(run: Path) -> None:
    config = ["--config", f"{run}/config.yaml", "--ckpt_path", str(run)]
    ended = run_program("-m", "lightning_hessian", "analyze", *config)
    assert ended.code == 2
    assert "error: `model` in " in ended.errors
    classes = [MODEL, DATA, *COMMON]
    ended = run_program(
        "-m", "lightning_hessian", "analyze", *config, *classes, "--spectrum.num_samples=-1"
    )
    assert ended.code == 2
    assert "error: `num_samples` must be None, a whole number of at least 1" in ended.errors
    assert "Traceback" not in ended.errors
    ended = run_program("-m", "lightning_hessian", "analyze", *config, *classes)
    assert ended.code == 0, ended.errors
    assert "1 of 1 checkpoints measured." in ended.output
