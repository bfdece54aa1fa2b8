"""Each configuration is one that an ordinary ``LightningCLI`` takes, and trains with."""

from __future__ import annotations

import gzip
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch.cli import LightningCLI

from examples.data import Mnist, read_idx
from lightning_hessian import HessianSpectrum
from tests.helpers.events import Events

CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.yaml"))


@pytest.fixture(autouse=True)
def at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths in configurations are from the repository's root."""
    monkeypatch.setattr(sys, "argv", ["program"])
    monkeypatch.setenv("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    monkeypatch.chdir(CONFIGS[0].parent.parent)


def fit(config: Path, *arguments: str) -> tuple[LightningCLI, list[HessianSpectrum]]:
    quiet = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
    cli = LightningCLI(args=["fit", f"--config={config}", *quiet, *arguments])
    return cli, [c for c in cli.trainer.callbacks if isinstance(c, HessianSpectrum)]


def test_there_is_one_for_each_kind_of_module() -> None:
    assert [path.stem for path in CONFIGS] == ["cnn", "demo", "mnist", "transformer"]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_it_begins_with_how_to_run_it_and_measures(config: Path) -> None:
    text = config.read_text(encoding="utf8")
    assert f"python -m examples.cli fit --config configs/{config.name}" in text.split("\n\n")[0]
    callbacks = yaml.safe_load(text)["trainer"]["callbacks"]
    assert "lightning_hessian.HessianSpectrum" in [c["class_path"] for c in callbacks]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_it_trains_for_two_steps_and_every_measurement_has_numbers(
    config: Path, tmp_path: Path
) -> None:
    # few samples and products, and neither loggers nor checkpoints
    _, callbacks = fit(config, "--trainer.fast_dev_run=2", f"--trainer.default_root_dir={tmp_path}")
    for callback in callbacks:
        assert [report.failure for report in callback.reports] == [None, None]
        assert [report.global_step for report in callback.reports] == [0, 2]


@pytest.mark.example
@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_it_trains_as_it_is_and_writes_every_tag(config: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        place = f"--trainer.logger.save_dir={tmp_path}"
        cli, callbacks = fit(config, "--trainer.max_steps=4", place)
    found = Events(str(cli.trainer.log_dir)).scalars()
    for callback in callbacks:
        assert [report.failure for report in callback.reports] == [None, None]
        assert [step for step, _ in found[f"{callback.name}/eig_1"]] == [0, 4]


def idx(values: np.ndarray[Any, Any]) -> bytes:
    shape = np.array(values.shape, dtype=">u4").tobytes()
    return bytes([0, 0, 8, values.ndim]) + shape + values.tobytes()


@pytest.mark.parametrize("packed", [False, True])
def test_files_in_the_format_of_mnist_are_read(packed: bool, tmp_path: Path) -> None:
    images = np.arange(3 * 28 * 28, dtype=np.uint32).reshape(3, 28, 28).astype(np.uint8)
    labels = np.array([7, 0, 9], dtype=np.uint8)
    for name, values in (("images-idx3", images), ("labels-idx1", labels)):
        path = tmp_path / f"train-{name}-ubyte{'.gz' if packed else ''}"
        path.write_bytes(gzip.compress(idx(values)) if packed else idx(values))
    data = Mnist(path=str(tmp_path), batch_size=3)
    data.setup("fit")
    stacked = [torch.stack(parts) for parts in zip(*data.dataset, strict=True)]
    assert stacked[0].shape == (3, 1, 28, 28)
    assert stacked[0].equal(torch.tensor(images)[:, None] / 255)
    assert stacked[1].tolist() == [7, 0, 9]


def test_a_file_of_another_format_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\x89PNG")
    with pytest.raises(ValueError, match="must begin with 00 00 08, got 89 50 4e"):
        read_idx(tmp_path / "file")
