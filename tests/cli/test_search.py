"""``search`` as a subcommand, on what an ordinary command line saved."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
from lightning.pytorch.cli import LightningCLI

from lightning_hessian import __main__
from lightning_hessian.cli import HessianCLI
from tests.helpers.fitting import Classifier, loader

QUIET = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]


class NeverStepped(Classifier):
    def configure_optimizers(self) -> Any:
        return None


class Data(pl.LightningDataModule):
    def train_dataloader(self) -> Any:
        return loader(batch_size=26)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an ordinary run: its configuration and a checkpoint."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["program"])
        patch.setenv("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
        LightningCLI(
            args=[
                *("fit", "--seed_everything=0", f"--data={__name__}.Data"),
                *("--model=tests.helpers.fitting.Classifier", "--trainer.logger=CSVLogger"),
                *(f"--trainer.logger.save_dir={folder}", "--trainer.logger.name=null"),
                *("--trainer.logger.version=run", "--trainer.max_epochs=1", *QUIET),
                *("--trainer.log_every_n_steps=1", "--trainer.enable_model_summary=false"),
            ]
        )
    return folder / "run"


def arguments(run: Path, *more: str) -> list[str]:
    (ckpt,) = (run / "checkpoints").glob("epoch*.ckpt")
    # paths of the run alone
    return ["search", f"--config={run}/config.yaml", f"--ckpt_path={ckpt}", *more]


def test_a_search_by_the_command_line_keeps_its_point_beside_the_checkpoint(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        sys, "argv", ["program", *arguments(run, "--target=minimum", "--weight_decay=0.03")]
    )
    __main__.main()
    assert "Converged: |g| is " in capsys.readouterr().out
    (file,) = (run / "checkpoints").glob("minimum-of-epoch*.json")
    report = json.loads(file.read_text())
    assert (report["outcome"], report["weight_decay"]) == ("converged", "0.03")
    assert report["is_target"]
    assert "A minimum: " in report["verdict"]
    Classifier.load_from_checkpoint(file.with_suffix(".ckpt"))
    # nothing else is left behind
    assert not (run / "lightning_logs").exists()
    assert len(list(run.iterdir())) == 3


def test_an_index_is_a_number_and_what_is_not_found_is_told_by_the_exit_code(run: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        HessianCLI(args=arguments(run, "--target=2", "--max_hvps=110"))
    assert ended.value.code == 3
    (file,) = (run / "checkpoints").glob("index-2-of-epoch*.json")
    assert json.loads(file.read_text())["target"] == "index 2"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--max_hvps=10", "--target=nearest"], r"error: `max_hvps` must be at least .* got 10"),
        (["--ckpt_path=null"], r"error: `ckpt_path` must name a checkpoint, got None"),
        (["--weight_decay=0.1", "--target=52"], r"an index from 0 to 51, got 52"),
        (["--seed=1000000000000"], r"error: `seed` must be .* to 4,294,967,295, got 1000000000000"),
        (
            ["--tolerance=1e300", "--save=false"],
            r"error: `tolerance` must be above 0 and at most 1, got 1e\+300",
        ),
        (["--loss.batch_size=0"], r"error: `batch_size` must be .* at least 1, .* got 0"),
        (
            ["--data=lightning.LightningDataModule"],
            r"error: `data` must name the .*--data",
        ),
    ],
)
def test_options_out_of_range_are_errors_of_the_command_line(
    run: Path, more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        HessianCLI(args=arguments(run, *more))
    assert ended.value.code == 2
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.filterwarnings("ignore:.*returned `None`, this fit will run with no optimizer")
def test_what_cannot_be_searched_ends_the_program_with_the_reason(run: Path) -> None:
    with pytest.raises(SystemExit, match=r"error: `checkpoint` must be .* absent.ckpt: there is"):
        HessianCLI(args=arguments(run, "--ckpt_path=absent.ckpt"))
    decays = ["--weight_decay=optimizer", "--save=false", f"--model={__name__}.NeverStepped"]
    with pytest.raises(SystemExit, match=r"error: `weight_decay='optimizer'` cannot be read off, "):
        HessianCLI(args=arguments(run, *decays))


def test_a_target_that_is_none_is_an_error_of_the_command_line(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        HessianCLI(args=arguments(run, "--target=saddle"))
    assert ended.value.code == 2
    assert "target" in capsys.readouterr().err
