"""Each configuration is one that an ordinary ``LightningCLI`` takes, and trains with.

But for those of the studies, which their own programs take.
"""

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
from jsonargparse import ArgumentParser
from lightning.pytorch.cli import LightningCLI
from torch import Tensor

from examples import band_study, index_study
from examples.data import HeldOutMnist, Mnist, read_idx
from lightning_hessian import CriticalPoint, HessianSpectrum, LossDifference
from tests.helpers.events import Events

Callback = CriticalPoint | HessianSpectrum | LossDifference
STUDIES = {"band": band_study.parser, "index": index_study.parser}
FILES = sorted((Path(__file__).parent.parent / "configs").glob("*.yaml"))
CONFIGS = [path for path in FILES if path.stem not in STUDIES]


@pytest.fixture(autouse=True)
def at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths in configurations are from the repository's root."""
    monkeypatch.setattr(sys, "argv", ["program"])
    monkeypatch.setenv("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    monkeypatch.chdir(CONFIGS[0].parent.parent)


def fit(config: Path, *arguments: str) -> tuple[LightningCLI, list[Callback]]:
    quiet = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
    cli = LightningCLI(args=["fit", f"--config={config}", *quiet, *arguments])
    return cli, [c for c in cli.trainer.callbacks if isinstance(c, Callback)]


def test_there_is_one_for_each_kind_of_module_each_callback_and_each_study() -> None:
    assert [path.stem for path in FILES] == [
        "band",
        "cnn",
        "critical_point",
        "demo",
        "edge",
        "index",
        "loss_difference",
        "mnist",
        "transformer",
    ]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_it_begins_with_how_to_run_it_and_measures(config: Path) -> None:
    text = config.read_text(encoding="utf8")
    assert f"python -m examples.cli fit --config configs/{config.name}" in text.split("\n\n")[0]
    callbacks = yaml.safe_load(text)["trainer"]["callbacks"]
    others = {"loss_difference": "LossDifference", "critical_point": "CriticalPoint"}
    measuring = others.get(config.stem, "HessianSpectrum")
    assert f"lightning_hessian.{measuring}" in [c["class_path"] for c in callbacks]


@pytest.mark.parametrize("name", STUDIES)
def test_that_of_a_study_sets_all_there_is_to_what_it_is_without_it(name: str) -> None:
    path = FILES[0].parent / f"{name}.yaml"
    text = path.read_text(encoding="utf8")
    command = f"python -m examples.{name}_study --config configs/{name}.yaml"
    assert command in text.split("\n\n")[0]
    parser: ArgumentParser = STUDIES[name]()
    default, given = parser.parse_args([]), parser.parse_args([f"--config={path}"])
    assert set(yaml.safe_load(text)) == set(vars(default)) - {"config"}
    assert {**vars(given), "config": None} == vars(default)


@pytest.mark.sampled
@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_it_trains_for_two_steps_and_every_measurement_has_numbers(
    config: Path, tmp_path: Path
) -> None:
    # few samples and products, and neither loggers nor checkpoints
    _, callbacks = fit(config, "--trainer.fast_dev_run=2", f"--trainer.default_root_dir={tmp_path}")
    for callback in callbacks:
        assert [report.failure for report in callback.reports] == [None, None]
        # an epoch of whole batches has one step
        steps = 1 if config.stem == "edge" else 2
        assert [report.global_step for report in callback.reports] == [0, steps]


def of_less_work(config: Path, folder: Path) -> Path:
    """The same, but on few samples by few products where it says by how many."""
    content = yaml.safe_load(config.read_text(encoding="utf8"))
    for callback in content["trainer"]["callbacks"]:
        options = callback["init_args"]
        if "solver" in options:
            options["num_samples"] = 48
            options["solver"]["init_args"]["max_hvps"] = 16
    path = folder / config.name
    path.write_text(yaml.safe_dump(content), encoding="utf8")
    return path


@pytest.mark.example
@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_it_trains_with_its_loggers_and_writes_its_tags(config: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        place = f"--trainer.logger.save_dir={tmp_path}"
        cli, callbacks = fit(of_less_work(config, tmp_path), "--trainer.max_steps=4", place)
    found = Events(str(cli.trainer.log_dir)).scalars()
    for callback in callbacks:
        assert {report.failure for report in callback.reports} == {None}
        tag = "eig_1" if isinstance(callback, HessianSpectrum) else "loss"
        # of a few steps only the end can be measured for a share of their time
        wanted = [4] if callback.max_overhead else [0, 4]
        assert [step for step, _ in found[f"{callback.name}/{tag}"]] == wanted


def idx(values: np.ndarray[Any, Any]) -> bytes:
    shape = np.array(values.shape, dtype=">u4").tobytes()
    return bytes([0, 0, 8, values.ndim]) + shape + values.tobytes()


def write_images(folder: Path, part: str, labels: list[int], *, packed: bool = False) -> Tensor:
    """Files in the format of MNIST; the pixels, from 0 to 1, are returned."""
    shape = (len(labels), 28, 28)
    pixels = np.arange(np.prod(shape), dtype=np.uint32).reshape(shape).astype(np.uint8)
    for name, values in (("images-idx3", pixels), ("labels-idx1", np.uint8(labels))):
        path = folder / f"{part}-{name}-ubyte{'.gz' if packed else ''}"
        path.write_bytes(gzip.compress(idx(values)) if packed else idx(values))
    return torch.tensor(pixels)[:, None] / 255


@pytest.mark.parametrize("packed", [False, True])
def test_files_in_the_format_of_mnist_are_read(packed: bool, tmp_path: Path) -> None:
    pixels = write_images(tmp_path, "train", [7, 0, 9], packed=packed)
    data = Mnist(path=str(tmp_path), batch_size=3)
    data.setup("fit")
    images, labels = data.dataset.tensors
    assert images.shape == (3, 1, 28, 28)
    assert images.equal(pixels)
    assert labels.tolist() == [7, 0, 9]


def test_the_test_set_is_held_out_and_pixels_are_centred(tmp_path: Path) -> None:
    pixels = write_images(tmp_path, "train", [7, 0, 9])
    write_images(tmp_path, "t10k", [5])
    data = HeldOutMnist(path=str(tmp_path), num_samples=2)
    data.setup("fit")
    images, labels = data.dataset.tensors
    assert images.equal(2 * pixels[:2] - 1)
    assert labels.tolist() == [7, 0]
    assert [labels.tolist() for _, labels in data.val_dataloader()] == [[5]]


def test_a_sixth_of_the_digits_is_held_out_and_no_image_is_in_both() -> None:
    data = HeldOutMnist()
    data.setup("fit")
    assert [len(data.dataset), len(data.held_out)] == [1498, 299]
    whole = Mnist()
    whole.setup("fit")
    both = torch.cat([data.dataset.tensors[0], data.held_out.tensors[0]])
    assert ((both + 1) / 2).sum().item() == pytest.approx(whole.dataset.tensors[0].sum().item())
    assert len(torch.unique(both.flatten(1), dim=0)) == len(
        torch.unique(whole.dataset.tensors[0].flatten(1), dim=0)
    )


def test_a_file_of_another_format_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\x89PNG")
    with pytest.raises(ValueError, match="must begin with 00 00 08, got 89 50 4e"):
        read_idx(tmp_path / "file")
