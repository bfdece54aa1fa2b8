"""The callback in an unmodified ``LightningCLI``, of both names of Lightning."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_hessian import HessianSpectrum, Krylov, Loss, LossDifference, PyHessian
from lightning_hessian.callbacks import HAS_EVERY_PARSER

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
    options = {"mode": "train", "num_samples": "all"}
    loss = {"parameters": ["layer.*"], "which": 1}
    callback = measuring(cli(package, written(tmp_path, loss=loss, **options)))
    assert {k: getattr(callback._setup, k) for k in options} == options
    assert callback._setup.loss == Loss(**loss)


@pytest.mark.parametrize(
    ("written_options", "options"),
    [
        (
            {
                "num_samples": "auto",
                "solver": {
                    "sampling_rtol": 0.1,
                    "density_rtol": 0.002,
                    "probes_per_block": 2,
                    "precision": "bfloat16",
                    "memory_limit": 1.5,
                    "basis": "cpu",
                },
                "parameter_blocks": ["layer.weight", "*.bias"],
                "eigenvalues_per_block": 2,
                "overlaps": True,
            },
            {
                "num_samples": "auto",
                "solver": Krylov(
                    sampling_rtol=0.1,
                    density_rtol=0.002,
                    probes_per_block=2,
                    precision="bfloat16",
                    memory_limit=1.5,
                    basis="cpu",
                ),
                "parameter_blocks": ["layer.weight", "*.bias"],
                "eigenvalues_per_block": 2,
                "overlaps": True,
            },
        ),
        (
            {"parameter_blocks": "modules", "solver": {"memory_limit": None}},
            {"parameter_blocks": "modules"},
        ),
        (
            {"solver": {"class_path": "Krylov", "init_args": {"max_hvps": 33}}},
            {"solver": Krylov(max_hvps=33)},
        ),
        ({"solver": "PyHessian"}, {"solver": PyHessian()}),
        (
            {
                "loss": {"precision": 64, "products": "exact"},
                "solver": {
                    "class_path": "lightning_hessian.PyHessian",
                    "init_args": {"trace_maxIter": 7, "density_n_v": 2},
                },
            },
            {
                "loss": Loss(precision=64, products="exact"),
                "solver": PyHessian(trace_maxIter=7, density_n_v=2),
            },
        ),
    ],
)
def test_a_configuration_takes_the_groups_of_options(
    written_options: dict[str, Any], options: dict[str, Any], tmp_path: Path
) -> None:
    callback = measuring(cli("lightning.pytorch", written(tmp_path, **written_options)))
    assert_same_options(callback, HessianSpectrum(**options))


def assert_same_options(callback: HessianSpectrum, wanted: HessianSpectrum) -> None:
    assert callback._study._options == wanted._study._options  # type: ignore[attr-defined]
    assert callback._setup == wanted._setup


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (
            ["solver=PyHessian", "solver.trace_tol=1e-4", "loss.precision=64"],
            {"solver": PyHessian(trace_tol=1e-4), "loss": Loss(precision=64)},
        ),
        (
            ["solver.max_hvps=33", "solver.basis=bfloat16", 'loss.parameters=["layer.*"]'],
            {
                "solver": Krylov(max_hvps=33, basis="bfloat16"),
                "loss": Loss(parameters=["layer.*"]),
            },
        ),
        (["loss.which=1", "loss.batch_size=3"], {"loss": Loss(which=1, batch_size=3)}),
    ],
)
@pytest.mark.parametrize("sign", ["=", "+="])
def test_the_command_line_sets_options_of_the_groups(
    sign: str, arguments: list[str], options: dict[str, Any]
) -> None:
    dotted = [f"--trainer.callbacks.{argument}" for argument in arguments]
    callback = measuring(
        cli("lightning.pytorch", f"--trainer.callbacks{sign}HessianSpectrum", *dotted)
    )
    assert_same_options(callback, HessianSpectrum(**options))


def test_the_command_line_stands_above_the_group_of_a_configuration(tmp_path: Path) -> None:
    solver = {"class_path": "PyHessian", "init_args": {"trace_maxIter": 7}}
    config = written(tmp_path, solver=solver, loss={"precision": 64})
    arguments = ["--trainer.callbacks.solver.trace_tol=0.5", "--trainer.callbacks.loss.which=1"]
    callback = measuring(cli("lightning.pytorch", config, *arguments))
    assert_same_options(
        callback,
        HessianSpectrum(
            solver=PyHessian(trace_maxIter=7, trace_tol=0.5), loss=Loss(precision=64, which=1)
        ),
    )


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("name", ["HessianSpectrum", CLASS_PATH])
def test_the_command_line_adds_it_and_sets_its_options(package: str, name: str) -> None:
    pytest.importorskip(package)
    arguments = ["--trainer.callbacks.mode=train", "--trainer.callbacks.num_samples=12"]
    callback = measuring(cli(package, f"--trainer.callbacks+={name}", *arguments))
    assert (callback.mode, callback._setup.num_samples) == ("train", 12)


@pytest.mark.parametrize("package", PACKAGES)
def test_it_measures_in_a_fit_that_the_command_line_made(package: str, tmp_path: Path) -> None:
    pytest.importorskip(package)
    arguments = [
        "num_samples=8",
        "solver.max_hvps=8",
        "density=false",
        "trace=false",
        "on_error=raise",
    ]
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


def printed(capsys: pytest.CaptureFixture[str], name: str, *arguments: str) -> dict[str, Any]:
    with pytest.raises(SystemExit):
        cli("lightning.pytorch", f"--trainer.callbacks+={name}", *arguments, "--print_config")
    (callback,) = yaml.safe_load(capsys.readouterr().out)["trainer"]["callbacks"]
    assert callback["class_path"] == f"lightning_hessian.{name}"
    options: dict[str, Any] = callback["init_args"]
    return options


@pytest.mark.parametrize("kind", [HessianSpectrum, LossDifference])
def test_print_config_has_every_option_with_its_default(
    kind: type[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    options = printed(capsys, kind.__name__)
    defaults = {
        name: parameter.default for name, parameter in inspect.signature(kind).parameters.items()
    }
    loss, solver = defaults.pop("loss"), defaults.pop("solver")
    assert options.pop("loss") == asdict(loss) == asdict(Loss())
    shown = options.pop("solver")
    # a callback that takes one solver only has no class to choose
    assert shown.get("init_args", shown) == asdict(solver)
    # YAML has no tuples
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
    assert values == defaults
    if kind is HessianSpectrum:
        assert shown["class_path"] == "lightning_hessian.Krylov"


def test_print_config_has_every_option_of_a_chosen_solver(
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["--trainer.callbacks.solver=PyHessian", "--trainer.callbacks.solver.trace_tol=0.5"]
    solver = printed(capsys, "HessianSpectrum", *arguments)["solver"]
    assert solver["class_path"] == "lightning_hessian.PyHessian"
    assert solver["init_args"] == asdict(PyHessian(trace_tol=0.5))


def documented(kind: type[Any]) -> dict[str, list[str]]:
    """The options in a docstring, with the lines that tell what each means."""
    found: dict[str, list[str]] = {}
    parts = str(kind.__doc__).split("Args:")[1].split("Raises:")[0]
    for line in filter(None, map(str.strip, parts.splitlines())):
        name, colon, text = line.partition(": ")
        if colon and name.isidentifier():
            found[name] = [text]
        else:
            found[next(reversed(found))].append(line)
    return found


@pytest.mark.parametrize(
    ("kind", "argument", "prefix"),
    [
        (HessianSpectrum, "callbacks.help=lightning_hessian.HessianSpectrum", "callbacks"),
        (LossDifference, "callbacks.help=lightning_hessian.LossDifference", "callbacks"),
        (Loss, "callbacks.help=lightning_hessian.HessianSpectrum", "callbacks.loss"),
        (Loss, "callbacks.help=lightning_hessian.LossDifference", "callbacks.loss"),
    ],
)
def test_help_has_each_option_with_what_it_means(
    kind: type[Any], argument: str, prefix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = shown(capsys, f"--trainer.{argument}")
    options = documented(kind)
    assert options.keys() == inspect.signature(kind).parameters.keys()
    for name, lines in options.items():
        # a group has a heading in place of an entry
        if name != "loss":
            assert f"--trainer.{prefix}.{name} " in text
            assert [line for line in lines if line not in text] == []
    assert "Which loss, by which parameters, on which batches, in which arithmetic" in text


@pytest.mark.parametrize("kind", [Krylov, PyHessian])
def test_help_for_a_solver_has_each_of_its_options(
    kind: type[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    text = shown(
        capsys,
        "--trainer.callbacks=HessianSpectrum",
        f"--trainer.callbacks.solver.help={kind.__name__}",
    )
    for name, lines in documented(kind).items():
        assert f".{name} " in text
        assert [line for line in lines if line not in text] == []


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("mode", "evil", "Expected a typing.Literal"),
        (
            "num_samples",
            0,
            "`num_samples` must be None, a whole number of at least 1, 'all' or 'auto', got 0",
        ),
        (
            "solver.max_hvps",
            1,
            "`max_hvps` must be a whole number of at least 8, two blocks of four, got 1",
        ),
        ("num_eigenvalues", -1, "`num_eigenvalues` must be a whole number of at least 0, got -1"),
        ("loss.parameters", [], "`parameters` must hold at least one name pattern"),
        ("every_n_epochs", 0, "`every_n_epochs` must be 'auto', a whole number of at least 1"),
        (
            "solver.probes_per_block",
            0,
            "`probes_per_block` must be a whole number from 1 to half of `max_hvps`",
        ),
        ("solver.memory_limit", -1, "`memory_limit` must be a positive number of GiB"),
        ("solver", "Solver", "`solver` must be a `Krylov` or a `PyHessian`"),
        ("colour", "red", "colour"),
        ("loss.colour", "red", "colour"),
        ("solver.colour", "red", "colour"),
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
        group, dot, name = option.partition(".")
        arguments = [written(tmp_path, **{group: {name: value} if dot else value})]
    elif option == "mode":
        # the command-line parser's own words, which it has for every class
        message = "mode"
    with pytest.raises((SystemExit, ValueError)) as refused:
        cli("lightning.pytorch", *arguments)
    if HAS_EVERY_PARSER:
        assert isinstance(refused.value, SystemExit)
        assert refused.value.code == 2
    assert message in f"{refused.value} {capsys.readouterr().err}"


def weigh(batch: Any) -> float:
    return 2.0


def ones(count: int, batch_size: int = 2) -> DataLoader[Tensor]:
    return DataLoader(torch.ones(count, 32), batch_size=batch_size)  # type: ignore[arg-type]


def test_a_loader_and_a_weight_are_given_by_their_paths(tmp_path: Path) -> None:
    loader = {"class_path": f"{__name__}.ones", "init_args": {"count": 6}}
    options = {"dataloader": loader, "weight_fn": f"{__name__}.weigh"}
    callback = measuring(cli("lightning.pytorch", written(tmp_path, loss=options)))
    loss = callback._setup.loss
    assert loss.weight_fn is weigh
    assert loss.dataloader is not None
    assert [len(batch) for batch in loss.dataloader] == [2, 2, 2]
