"""What a configuration or a checkpoint may not do to the command line, and how that ends."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from jsonargparse import get_loader
from torch import Tensor

from lightning_hessian import __main__
from lightning_hessian.cli import HessianCLI
from lightning_hessian.configurations import MAX_DEPTH, MAX_ENTRIES, check_size, load_bounded
from lightning_hessian.show import read_sidecar
from tests.cli.test_analyze import CHEAP, QUIET, Data, as_arguments
from tests.helpers.checkpoints import fitted
from tests.helpers.fitting import Classifier
from tests.helpers.patience import at_most

ROOT = Path(__file__).parents[2]


class Scaled(Classifier):
    """With a hyperparameter that is a number, and one that is code."""

    def __init__(self, factor: float = 1.0, scale: Callable[[Any], Any] = abs) -> None:
        super().__init__()
        self.factor = factor
        self.scale = scale

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.scale(self.factor * super().training_step(batch, batch_idx))


@pytest.fixture
def ckpt(tmp_path: Path) -> Path:
    fitted(tmp_path, Scaled(), max_epochs=1)
    (path,) = tmp_path.glob("*.ckpt")
    return path


def analysis(*arguments: str) -> HessianCLI:
    return HessianCLI(
        args=[
            *("analyze", "--trainer.logger=false", "--trainer.max_epochs=1", *QUIET),
            *(*as_arguments("spectrum", CHEAP), *arguments),
        ],
        model_class=Scaled,
        datamodule_class=Data,
        seed_everything_default=False,
    )


def bomb(levels: int) -> str:
    """Ten to the power of ``levels`` texts, in as many lines."""
    lines = [f"a0: &a0 [{', '.join(10 * ['x'])}]"]
    lines += [f"a{n}: &a{n} [{', '.join(10 * [f'*a{n - 1}'])}]" for n in range(1, levels)]
    return "\n".join([*lines, f"trainer: {{callbacks: *a{levels - 1}}}"])


def test_aliases_of_aliases_end_the_program_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(bomb(20), encoding="utf8")
    with at_most(60), pytest.raises(SystemExit) as ended:
        analysis(f"--config={path}", f"--ckpt_path={tmp_path}")
    assert ended.value.code == 2
    assert "it has more than 100,000 entries with all its aliases" in capsys.readouterr().err


def test_entries_are_counted_with_aliases_written_out() -> None:
    # 1 for the list of the lists, and for each of these 1 and its texts
    row = ", ".join(99 * ["x"])
    as_many = f"[&a [{row}], {', '.join((MAX_ENTRIES // 100 - 1) * ['*a'])}]"
    with pytest.raises(yaml.YAMLError, match="more than 100,000 entries"):
        check_size(as_many)
    check_size(as_many.replace("&a [x", "&a [", 1).replace("[, ", "["))
    written_out = as_many.replace("&a ", "").replace("*a", f"[{row}]")
    with pytest.raises(yaml.YAMLError, match="more than 100,000 entries"):
        check_size(written_out)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: &a [*a]", "more than 100,000 entries"),
        ("a: &a {b: {<<: *a}}", "more than 100,000 entries"),
        (bomb(5), "more than 100,000 entries"),
        (MAX_DEPTH * "[" + MAX_DEPTH * "]", "more than 100 levels"),
        # newer parsers look ahead, and stop by themselves
        (100_000 * "[", "more than 100 levels|exceeded maximum nesting depth"),
        ("a: [", "did not find expected"),
        ("*absent", "undefined alias"),
    ],
)
def test_what_has_no_end_or_no_sense_is_refused(text: str, reason: str) -> None:
    with pytest.raises(yaml.YAMLError, match=reason):
        load_bounded(text)


@pytest.mark.parametrize(
    "text",
    [
        *(path.read_text(encoding="utf8") for path in sorted((ROOT / "configs").iterdir())),
        "a: &a {b: 1, c: [1e-3, x]}\nd: {<<: *a, e: *a}",
        bomb(4),
        (MAX_DEPTH - 1) * "[" + (MAX_DEPTH - 1) * "]",
        "1e-3",
        "",
    ],
    ids=lambda text: text[:20],
)
def test_other_configurations_are_read_as_ever(text: str) -> None:
    assert load_bounded(text) == get_loader("yaml")(text)


def kept(ckpt: Path, **hyperparameters: Any) -> None:
    torch.save(torch.load(ckpt, weights_only=True) | {"hyper_parameters": hyperparameters}, ckpt)


@pytest.mark.parametrize(
    ("named", "shown"),
    [
        ("os.putenv", "posix.putenv"),
        ({"class_path": "torch.nn.Softplus", "init_args": {"beta": 3}}, "torch.nn.Softplus"),
    ],
)
def test_a_checkpoint_names_no_code(ckpt: Path, named: Any, shown: str) -> None:
    kept(ckpt, factor=2.0, scale=named)
    with pytest.raises(SystemExit, match=rf"hyperparameters in .* name code .*\({shown}\)"):
        analysis(f"--ckpt_path={ckpt}")


def test_code_that_the_command_line_names_too_is_taken(ckpt: Path) -> None:
    kept(ckpt, factor=-2.0, scale="torch.neg")
    made = analysis(f"--ckpt_path={ckpt}", "--model.scale=torch.neg")
    assert made.model.factor == -2.0
    assert made.model.scale is torch.neg


def test_the_program_ends_with_3_if_some_were_measured_and_1_if_none(ckpt: Path) -> None:
    os.mkfifo(ckpt.with_name("pipe.ckpt"))
    with pytest.warns(UserWarning, match="is skipped"), pytest.raises(SystemExit) as ended:
        analysis(f"--ckpt_path={ckpt.parent}")
    assert ended.value.code == 3
    assert read_sidecar(f"{ckpt}.hessian.json")["failure"] is None
    with pytest.warns(UserWarning, match="is skipped"), pytest.raises(SystemExit) as ended:
        analysis(f"--ckpt_path={ckpt.with_name('pipe.ckpt')}")
    # a text is shown, and the code is then 1
    assert str(ended.value.code).startswith("error: none of the checkpoints can be read:\n")
    analysis(f"--ckpt_path={ckpt}")


def test_a_configuration_of_any_bytes_tells_no_namespace(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(bytes(range(256)) * 1000)
    assert __main__.package_of(["--config", str(path)]) == "lightning.pytorch"
    assert __main__.package_of(["--config", "/dev/zero"]) == "lightning.pytorch"
