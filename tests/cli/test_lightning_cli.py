"""The callback in an unmodified ``LightningCLI``, of both names of Lightning."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_hessian import HessianSpectrum

PACKAGES = ["lightning.pytorch", "pytorch_lightning"]
CLASS_PATH = "lightning_hessian.HessianSpectrum"


def cli(package: str, *arguments: str) -> Any:
    """The command line of a user who wrote one line."""
    demos = importlib.import_module(f"{package}.demos.boring_classes")
    host = importlib.import_module(f"{package}.cli")
    return host.LightningCLI(
        demos.BoringModel,
        demos.BoringDataModule,
        run=False,
        seed_everything_default=False,
        args=["--trainer.logger=false", "--trainer.enable_checkpointing=false", *arguments],
    )


def measuring(made: Any) -> HessianSpectrum:
    (found,) = (c for c in made.trainer.callbacks if isinstance(c, HessianSpectrum))
    return found


def written(folder: Path, **init_args: Any) -> str:
    path = folder / "config.yaml"
    callback = {"class_path": CLASS_PATH, "init_args": init_args}
    path.write_text(yaml.safe_dump({"trainer": {"callbacks": [callback]}}), encoding="utf8")
    return f"--config={path}"


@pytest.mark.parametrize("package", PACKAGES)
def test_a_configuration_names_the_class_and_its_options(package: str, tmp_path: Path) -> None:
    pytest.importorskip(package)
    options = {"mode": "train", "num_samples": "all", "parameters": ["layer.*"], "loss": 1}
    callback = measuring(cli(package, written(tmp_path, **options)))
    assert {k: getattr(callback._options, k) for k in options} == options


@pytest.mark.parametrize(
    "options",
    [
        {
            "num_samples": "auto",
            "sampling_rtol": 0.1,
            "density_rtol": 0.002,
            "probes_per_block": 2,
            "sweep_precision": "bfloat16",
            "memory_limit": 1.5,
            "blocks": ["layer.weight", "*.bias"],
            "block_eigenvalues": 2,
            "overlaps": True,
        },
        {"blocks": "modules", "memory_limit": None, "probes_per_block": None},
        {"engine": "pyhessian", "pyhessian": {"trace_maxIter": 7, "density_n_v": 2}},
    ],
)
def test_a_configuration_takes_the_options_of_the_engine(
    options: dict[str, Any], tmp_path: Path
) -> None:
    callback = measuring(cli("lightning.pytorch", written(tmp_path, **options)))
    wanted = HessianSpectrum(**options)
    assert callback._spectrum == wanted._spectrum
    assert callback._options == wanted._options


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("name", ["HessianSpectrum", CLASS_PATH])
def test_the_command_line_adds_it_and_sets_its_options(package: str, name: str) -> None:
    pytest.importorskip(package)
    arguments = ["--trainer.callbacks.mode=train", "--trainer.callbacks.num_samples=12"]
    callback = measuring(cli(package, f"--trainer.callbacks+={name}", *arguments))
    assert (callback.mode, callback._options.num_samples) == ("train", 12)


@pytest.mark.parametrize("package", PACKAGES)
def test_it_measures_in_a_fit_that_the_command_line_made(package: str, tmp_path: Path) -> None:
    pytest.importorskip(package)
    arguments = ["num_samples=8", "max_hvps=8", "density=false", "trace=false", "on_error=raise"]
    arguments.append("max_overhead=null")
    made = cli(
        package,
        "--trainer.callbacks+=HessianSpectrum",
        *(f"--trainer.callbacks.{argument}" for argument in arguments),
        *("--trainer.accelerator=cpu", "--trainer.max_steps=1", "--trainer.limit_val_batches=0"),
        *("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"),
        f"--trainer.default_root_dir={tmp_path}",
    )
    made.trainer.fit(made.model, made.datamodule)
    assert [report.global_step for report in measuring(made).reports] == [0, 1]


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        cli("lightning.pytorch", *arguments)
    assert ended.value.code == 0
    return " ".join(capsys.readouterr().out.split())


def test_print_config_has_every_option_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli("lightning.pytorch", "--trainer.callbacks+=HessianSpectrum", "--print_config")
    (callback,) = yaml.safe_load(capsys.readouterr().out)["trainer"]["callbacks"]
    assert callback["class_path"] == CLASS_PATH
    defaults = HessianSpectrum.__init__.__defaults__
    # YAML has no tuples
    values = [tuple(v) if isinstance(v, list) else v for v in callback["init_args"].values()]
    assert tuple(values) == defaults


def test_help_has_each_option_with_what_it_means(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, f"--trainer.callbacks.help={CLASS_PATH}")
    parts = str(HessianSpectrum.__doc__).split("Args:")[1].split("Raises:")[0]
    documented = [line.strip() for line in parts.splitlines() if line.strip()]
    names = [line.partition(": ")[0] for line in documented if line.partition(": ")[2]]
    assert {"num_eigenvalues", "loss", "dataloader", "weight_fn", "hvp"} <= set(names)
    assert [line for line in documented if line.partition(": ")[2] not in text] == []


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("mode", "evil", "Expected a typing.Literal"),
        (
            "num_samples",
            0,
            "`num_samples` must be a whole number of at least 1, 'all' or 'auto', got 0",
        ),
        (
            "max_hvps",
            1,
            "`max_hvps` must be a whole number of at least 8, two blocks of four, got 1",
        ),
        ("parameters", [], "`parameters` must hold at least one name pattern"),
        ("every_n_epochs", 0, "`every_n_epochs` must be a whole number of at least 1"),
        (
            "probes_per_block",
            0,
            "`probes_per_block` must be a whole number from 1 to half of `max_hvps`",
        ),
        ("memory_limit", -1, "`memory_limit` must be a positive number of GiB"),
        ("colour", "red", "colour"),
    ],
)
@pytest.mark.parametrize("way", ["configuration", "command line"])
def test_a_bad_value_is_refused_by_name(
    option: str, value: Any, message: str, way: str, tmp_path: Path, capsys: Any
) -> None:
    arguments = [
        "--trainer.callbacks+=HessianSpectrum",
        f"--trainer.callbacks.{option}={value}",
    ]
    if way == "configuration":
        arguments = [written(tmp_path, **{option: value})]
    elif option == "mode":
        # the command-line parser's own words, which it has for every class
        message = "mode"
    with pytest.raises((SystemExit, ValueError)) as refused:
        cli("lightning.pytorch", *arguments)
    assert message in f"{refused.value} {capsys.readouterr().err}"


def weigh(batch: Any) -> float:
    return 2.0


def ones(count: int, batch_size: int = 2) -> DataLoader[Tensor]:
    return DataLoader(torch.ones(count, 32), batch_size=batch_size)  # type: ignore[arg-type]


def test_a_loader_and_a_weight_are_given_by_their_paths(tmp_path: Path) -> None:
    loader = {"class_path": f"{__name__}.ones", "init_args": {"count": 6}}
    options = {"dataloader": loader, "weight_fn": f"{__name__}.weigh"}
    callback = measuring(cli("lightning.pytorch", written(tmp_path, **options)))
    assert callback._options.weight_fn is weigh
    assert callback._options.dataloader is not None
    assert [len(batch) for batch in callback._options.dataloader] == [2, 2, 2]
