"""``analyze`` as a subcommand, on what an ordinary command line saved."""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
import yaml
from lightning.pytorch.cli import LightningCLI
from torch import Tensor

from lightning_hessian import (
    HessianSpectrum,
    Krylov,
    Loss,
    PyHessian,
    SpectrumReport,
    __main__,
    analyze,
)
from lightning_hessian.cli import AnalysisTrainer, HessianCLI, cli_of
from lightning_hessian.show import read_sidecar
from tests.helpers.checkpoints import fitted, numbers
from tests.helpers.fitting import Classifier, loader, trainer
from tests.helpers.programs import Ended, run_program

CHEAP: dict[str, Any] = {
    "num_samples": 10,
    "solver": {"max_hvps": 8},
    "trace": False,
    "density": False,
    "edge": False,  # of a running optimiser alone
    "max_overhead": None,
}


class Sized(Classifier):
    """With a hyperparameter that the loss depends on."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.factor = factor

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.factor * super().training_step(batch, batch_idx)


class Data(pl.LightningDataModule):
    def train_dataloader(self) -> Any:
        return loader()


class Fails(Data):
    def setup(self, stage: str) -> None:
        raise ValueError("of the user's own")


class NoOneElse(pl.Callback):
    """Of the training only; making it a second time is already too much."""

    made = 0

    def __init__(self) -> None:
        NoOneElse.made += 1


def as_arguments(prefix: str, options: dict[str, Any]) -> list[str]:
    """As a user types them: a group's options one by one."""
    arguments: list[str] = []
    for key, value in options.items():
        if isinstance(value, dict):
            arguments += as_arguments(f"{prefix}.{key}", value)
        else:
            arguments.append(f"--{prefix}.{key}={json.dumps(value)}")
    return arguments


def cheap() -> HessianSpectrum:
    return HessianSpectrum(**(CHEAP | {"solver": Krylov(**CHEAP["solver"])}))


QUIET = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an ordinary run: its configuration, its metrics, and a checkpoint."""
    folder = tmp_path_factory.mktemp("run")
    callback = f"{__name__}.NoOneElse"
    options = as_arguments("trainer.callbacks", CHEAP)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["program"])
        patch.setenv("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
        LightningCLI(
            args=[
                *("fit", "--seed_everything=0", f"--data={__name__}.Data"),
                *(f"--model={__name__}.Sized", "--model.factor=2.0"),
                *("--trainer.callbacks+=HessianSpectrum", *options),
                *("--trainer.callbacks.at_checkpoints=true", f"--trainer.callbacks+={callback}"),
                *("--trainer.logger=CSVLogger", f"--trainer.logger.save_dir={folder}"),
                *("--trainer.logger.name=null", "--trainer.logger.version=run"),
                *("--trainer.max_epochs=1", "--trainer.log_every_n_steps=1", *QUIET),
                "--trainer.enable_model_summary=false",
            ]
        )
    return folder / "run"


def program(kind: type[LightningCLI], *arguments: str, **options: Any) -> LightningCLI:
    return kind(args=["analyze", *arguments], **options)


def test_a_saved_configuration_gives_the_numbers_that_the_training_gave(
    run: Path, tmp_path: Path
) -> None:
    (ckpt,) = (run / "checkpoints").glob("*.ckpt")
    beside = Path(f"{ckpt}.hessian.json")
    during = SpectrumReport.from_dict(read_sidecar(beside))
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    made, beside_content = NoOneElse.made, beside.read_text(encoding="utf8")
    beside.unlink()
    program(
        HessianCLI,
        *(f"--config={run / 'config.yaml'}", f"--ckpt_path={run}"),
        f"--trainer.default_root_dir={tmp_path}",
    )
    after = SpectrumReport.from_dict(read_sidecar(beside))
    assert numbers(after) == numbers(during)
    assert during.num_samples == CHEAP["num_samples"]
    assert NoOneElse.made == made
    beside.write_text(beside_content, encoding="utf8")
    # also the metrics of a logger that begins by deleting them
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert list((tmp_path / "lightning_logs").rglob("events*"))


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
@pytest.mark.filterwarnings("ignore:.*callbacks used to create the checkpoint.*NoOneElse")
def test_an_ordinary_command_line_goes_on_from_a_file_that_holds_reports(
    run: Path, tmp_path: Path
) -> None:
    """Lightning reads a single file for hyperparameters, and takes only primitives from it."""
    (ckpt,) = (run / "checkpoints").glob("*.ckpt")
    (before,) = (read_sidecar(path) for path in (run / "checkpoints").glob("*.json"))
    options = as_arguments("trainer.callbacks", CHEAP)
    made = LightningCLI(
        args=[
            *("fit", "--seed_everything=0", f"--data={__name__}.Data", f"--model={__name__}.Sized"),
            *("--trainer.callbacks+=HessianSpectrum", *options, f"--ckpt_path={ckpt}"),
            *("--trainer.logger=false", f"--trainer.default_root_dir={tmp_path}", *QUIET),
            *("--trainer.max_epochs=2", "--trainer.enable_model_summary=false"),
        ]
    )
    (callback,) = (c for c in made.trainer.callbacks if isinstance(c, HessianSpectrum))
    assert made.model.factor == 2.0
    assert [report.global_step for report in callback.reports] == [0, 4, 8]
    assert callback.reports[1].largest.values.tolist() == before["largest"]["values"]


def test_the_command_line_stands_above_the_callback_of_the_configuration(
    run: Path, tmp_path: Path
) -> None:
    made = program(
        HessianCLI,
        *(f"--config={run / 'config.yaml'}", f"--ckpt_path={run}", "--sidecar=false"),
        *("--trainer.logger=false", "--spectrum.num_samples=2048", "--spectrum.mode=train"),
    )
    options = made.config_init["analyze"]["spectrum"]._setup
    assert (options.num_samples, options.mode) == (2048, "train")
    solver = made.config["analyze"]["spectrum"]["solver"]
    assert solver["init_args"]["max_hvps"] == CHEAP["solver"]["max_hvps"]


def test_the_command_line_chooses_another_solver_and_loss_than_the_configuration(
    run: Path,
) -> None:
    made = program(
        HessianCLI,
        *(f"--config={run / 'config.yaml'}", f"--ckpt_path={run}", "--sidecar=false"),
        *("--trainer.logger=false", "--spectrum.loss.precision=64"),
        *("--spectrum.solver=PyHessian", "--spectrum.solver.trace_tol=1e-2"),
        "--spectrum.solver.eigenvalues_maxIter=2",
    )
    callback = made.config_init["analyze"]["spectrum"]
    assert callback._setup.loss == Loss(precision=64)
    assert callback._study._options.solver == PyHessian(trace_tol=1e-2, eigenvalues_maxIter=2)
    (report,) = callback.reports
    assert report.engine == "pyhessian"
    # the others are those of the configuration
    assert report.num_samples == CHEAP["num_samples"]
    assert report.density is None


def test_the_chosen_solver_and_loss_of_a_configuration_are_the_defaults(
    run: Path, tmp_path: Path
) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf8"))
    options = config["trainer"]["callbacks"][0]["init_args"]
    options["loss"] |= {"precision": 64, "parameters": ["network.*"]}
    init_args = {"eigenvalues_maxIter": 2, "trace_maxIter": 3}
    options["solver"] = {"class_path": "lightning_hessian.PyHessian", "init_args": init_args}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf8")
    made = program(
        HessianCLI,
        *(f"--config={path}", f"--ckpt_path={run}", "--sidecar=false", "--trainer.logger=false"),
        "--spectrum.loss.batch_size=5",
    )
    callback = made.config_init["analyze"]["spectrum"]
    assert callback._setup.loss == Loss(precision=64, parameters=["network.*"], batch_size=5)
    assert callback._study._options.solver == PyHessian(eigenvalues_maxIter=2, trace_maxIter=3)


def test_a_program_that_fixes_its_classes_has_the_subcommand_beside_the_others(
    tmp_path: Path,
) -> None:
    ours = {"analyze", "search"}
    assert set(HessianCLI.subcommands()) == {"fit", "validate", "test", "predict"} | ours
    fitted(tmp_path, Sized(2.0), max_epochs=1)
    (ckpt,) = tmp_path.glob("*.ckpt")
    made = program(
        HessianCLI,
        *(f"--ckpt_path={ckpt}", "--sidecar=false", "--trainer.logger=false"),
        *("--trainer.max_epochs=1", *QUIET),
        *as_arguments("spectrum", CHEAP),
        model_class=Sized,
        datamodule_class=Data,
        seed_everything_default=False,
    )
    # as with Lightning's own subcommands, a single file gives the hyperparameters
    assert made.model.factor == 2.0


def test_a_single_broken_file_ends_the_program_with_its_reason(run: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.ckpt"
    broken.write_bytes(b"junk")
    with (
        pytest.warns(UserWarning, match="is skipped"),
        pytest.raises(SystemExit, match=r"error: none of the checkpoints.*\n.*broken.ckpt: it is"),
    ):
        program(
            HessianCLI,
            *(f"--config={run / 'config.yaml'}", f"--ckpt_path={broken}"),
            "--trainer.logger=false",
        )


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "error: `ckpt_path` must name checkpoints, got None"),
        (["--spectrum.num_samples=0"], "error: `num_samples` must be None, .* or 'auto', got 0"),
        (["--spectrum.solver.max_hvps=1"], "error: `max_hvps` must be .* at least 8, .* got 1"),
        (["--spectrum.loss.batch_size=0"], "error: `batch_size` must be .* at least 1, .* got 0"),
        (["--critical_point.weight_decay=-1"], "error: `weight_decay` must be .* got -1"),
        (
            ["--loss_difference.surface.points=4"],
            "error: `points` must be odd, so that the weights are one of them, got 4",
        ),
        (["--data=lightning.LightningDataModule", "--ckpt_path=a"], "error: `data` must name the"),
    ],
)
def test_options_out_of_range_are_errors_of_the_command_line(
    run: Path, more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        program(HessianCLI, f"--config={run / 'config.yaml'}", "--trainer.logger=false", *more)
    assert ended.value.code == 2
    assert re.search(message, capsys.readouterr().err)


def test_an_error_of_the_users_own_code_is_not_taken_for_a_wrong_option(run: Path) -> None:
    with pytest.raises(ValueError, match="of the user's own"):
        program(
            HessianCLI,
            *(f"--config={run / 'config.yaml'}", f"--ckpt_path={run}"),
            *("--trainer.logger=false", f"--data={__name__}.Fails"),
        )


def test_refused_measurements_end_the_program_with_the_reason(run: Path) -> None:
    with (
        pytest.warns(UserWarning, match="matches none"),
        pytest.raises(SystemExit, match=r"error: no checkpoint could be analysed: .*none"),
    ):
        program(
            HessianCLI,
            *(f"--config={run / 'config.yaml'}", f"--ckpt_path={run}", "--sidecar=false"),
            *("--trainer.logger=false", '--spectrum.loss.parameters=["absent.*"]'),
        )


def test_a_trainer_class_without_the_method_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"`trainer_class` must have the methods `analyze` and .* Tr"
    ):
        HessianCLI(trainer_class=pl.Trainer, args=[])


def test_a_trainer_has_the_method_for_programs_too(run: Path) -> None:
    quiet = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False}
    host = AnalysisTrainer(enable_model_summary=False, max_epochs=1, **quiet)
    options: dict[str, Any] = {"datamodule": Data(), "sidecar": False}
    (theirs,) = host.analyze(Sized(2.0), ckpt_path=str(run), spectrum=cheap(), **options)
    (ours,) = analyze(Sized(2.0), run, callback=cheap(), trainer=trainer(), **options)
    assert numbers(theirs) == numbers(ours)


def test_the_other_namespace_has_its_own_command_line(tmp_path: Path) -> None:
    other = pytest.importorskip("pytorch_lightning")
    demos = importlib.import_module("pytorch_lightning.demos.boring_classes")
    kind = cli_of("pytorch_lightning")
    assert cli_of("lightning.pytorch") is HessianCLI
    host = other.Trainer(
        max_steps=1, logger=False, accelerator="cpu", enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path, limit_val_batches=0,
    )  # fmt: skip
    host.fit(demos.BoringModel(), demos.BoringDataModule())
    (ckpt,) = tmp_path.rglob("*.ckpt")
    program(
        kind,
        *(f"--ckpt_path={ckpt}", "--trainer.logger=false", "--trainer.max_epochs=1", *QUIET),
        *("--spectrum.num_samples=8", "--spectrum.solver.max_hvps=8", "--spectrum.density=false"),
        model_class=demos.BoringModel,
        datamodule_class=demos.BoringDataModule,
        seed_everything_default=False,
    )
    assert read_sidecar(f"{ckpt}.hessian.json")["failure"] is None


@pytest.mark.parametrize("package", __main__.PACKAGES)
def test_the_first_line_of_a_configuration_tells_the_namespace(
    package: str, tmp_path: Path
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"# {package}==2.6.6\ntrainer: null\n", encoding="utf8")
    assert __main__.package_of(["analyze", "--config", str(path)]) == package
    assert __main__.package_of(["analyze", f"--config={path}"]) == package
    assert __main__.package_of(["analyze", "--ckpt_path", "a"]) == "lightning.pytorch"


@pytest.mark.slow
def test_the_program_analyses_what_an_ordinary_program_trained(tmp_path: Path) -> None:
    def shell(*arguments: str, succeeds: bool = True) -> Ended:
        ended = run_program("-m", *arguments)
        assert (ended.code == 0) == succeeds, ended.errors[-3000:]
        return ended

    fit = ["--trainer.max_epochs=4", "--trainer.limit_train_batches=2"]
    fit.append(f"--trainer.logger.save_dir={tmp_path}")
    shell("examples.cli", "fit", "--config", "configs/demo.yaml", *fit)
    config = str(tmp_path / "demo" / "version_0" / "config.yaml")
    short = ["--spectrum.solver.max_hvps=8", "--spectrum.num_samples=100"]
    done = shell(
        *("lightning_hessian", "analyze", "--config", config, *short),
        *("--ckpt_path", f"{tmp_path}/*/*/checkpoints/*.ckpt"),
    )
    assert "largest eigenvalue" in done.output
    (path,) = tmp_path.rglob("*.hessian.json")
    assert json.loads(path.read_text(encoding="utf8"))["num_samples"] == 100
    (ckpt,) = tmp_path.rglob("*.ckpt")
    torch.save({"a": 1}, ckpt)
    failed = shell(
        *("lightning_hessian", "analyze", "--config", config, "--ckpt_path", str(ckpt)),
        succeeds=False,
    )
    assert "error: none of the checkpoints can be read" in failed.errors
