"""The help of our subcommands: one screen, and all of it by parts."""

from __future__ import annotations

import sys

import pytest

from lightning_hessian import __main__
from lightning_hessian.cli import HessianCLI
from tests.helpers.fitting import Classifier
from tests.helpers.programs import run_program

SCREEN = 50
"""Lines of a terminal that is not small."""


def said(
    *arguments: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> str:
    monkeypatch.setattr(sys, "argv", ["/usr/lib/lightning_hessian/__main__.py", *arguments])
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as ended:
        __main__.main()
    assert ended.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "own", "elsewhere"),
    [
        (
            "analyze",
            ["--config", "--ckpt_path", "--measure", "--weights", "--sidecar", ".num_eigenvalues"],
            [".num_samples", ".loss, .solver", "--trainer ", "--spectrum ", "--critical_point "],
        ),
        (
            "search",
            ["--config", "--ckpt_path", "--target", "--weight_decay", "--tolerance", "--max_hvps"],
            [".batch_size", "--trainer ", "--loss "],
        ),
    ],
)
def test_help_is_one_screen_with_what_is_asked_for_most(
    command: str,
    own: list[str],
    elsewhere: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = said(command, "--help", capsys=capsys, monkeypatch=monkeypatch)
    lines = text.splitlines()
    assert text.startswith(f"usage: python -m lightning_hessian {command} --config CONFIG --ckpt_")
    assert len(lines) <= SCREEN
    assert max(map(len, lines)) <= 110
    assert [name for name in own + elsewhere if name not in text] == []
    assert "Ends with 0 if" in text
    assert "--help=all" in text
    assert "every_n_epochs" not in text
    assert "verbose" not in text


@pytest.mark.parametrize(
    ("group", "wanted", "unwanted"),
    [
        ("spectrum", ["--spectrum.num_samples NUM", "--spectrum.loss.precision"], "--trainer."),
        ("HessianSpectrum", ["--spectrum.solver SOLVER", "(type: int, default: 5)"], "--trainer."),
        ("loss_difference", ["--loss_difference.perturbations"], "--spectrum."),
        ("trainer", ["--trainer.accelerator ACC"], "--spectrum."),
        ("model", ["--model CONFIG | CLASS"], "--spectrum."),
        ("all", ["--trainer.accelerator", "--spectrum.num_samples", "--sidecar"], "every_n_train"),
    ],
)
def test_every_option_is_told_by_its_group(
    group: str,
    wanted: list[str],
    unwanted: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = said("analyze", f"--help={group}", capsys=capsys, monkeypatch=monkeypatch)
    assert [name for name in wanted if name not in text] == []
    assert unwanted not in text
    assert said("analyze", "-h", group, capsys=capsys, monkeypatch=monkeypatch) == text
    # the whole is as it was, for the next who asks
    after = said("analyze", "--help=all", capsys=capsys, monkeypatch=monkeypatch)
    assert "--trainer.accelerator" in after


def test_a_group_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        HessianCLI(args=["analyze", "--help=speculum"])
    assert ended.value.code == 2
    assert (
        "error: `--help` must be alone, or followed by one of spectrum, loss_difference, "
        "critical_point, trainer, model, data, all, got 'speculum'."
    ) in capsys.readouterr().err


def test_a_program_with_fixed_classes_asks_for_none(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", "analyze", "--help"])
    with pytest.raises(SystemExit):
        HessianCLI(Classifier)
    text = capsys.readouterr().out
    assert text.startswith("usage: train.py analyze --ckpt_path CHECKPOINTS [options]\n")
    assert "  train.py analyze --ckpt_path run\n" in text
    assert "  --model " in text
    # Lightning's own subcommands keep theirs
    monkeypatch.setattr(sys, "argv", ["train.py", "fit", "--help"])
    with pytest.raises(SystemExit):
        HessianCLI(Classifier)
    assert "--trainer.accelerator" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("called", "name"),
    [
        ("/usr/lib/lightning_hessian/__main__.py", "python -m lightning_hessian"),
        ("/home/me/bin/lightning-hessian", "lightning-hessian"),
    ],
)
def test_texts_name_the_program_as_it_was_called(
    called: str, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [called, "search", "--help"])
    with pytest.raises(SystemExit):
        __main__.main()
    text = capsys.readouterr().out
    assert text.startswith(f"usage: {name} search ")
    assert f"  {name} search --config run/config.yaml --ckpt_path last.ckpt" in text


@pytest.mark.slow
def test_help_comes_through_the_real_program() -> None:
    ended = run_program("-m", "lightning_hessian", "analyze", "--help")
    assert ended.code == 0
    assert ended.output.startswith("usage: python -m lightning_hessian analyze ")
