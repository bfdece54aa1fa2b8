"""What an installation of the package brings into a user's environment, and what not."""

from __future__ import annotations

from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import lightning.pytorch as pl
import pytest

import lightning_hessian
from lightning_hessian import __main__
from tests.helpers.fitting import trainer

ROOT = Path(__file__).parent.parent


@pytest.fixture
def project() -> dict[str, Any]:
    """The project's own description, where this Python can read it."""
    tomllib = pytest.importorskip("tomllib")
    content: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf8"))
    return content["project"]


def test_no_trainer_gets_the_callback_unasked(project: dict[str, Any]) -> None:
    """Lightning adds what is registered as a factory of callbacks to every Trainer there is."""
    assert "lightning.pytorch.callbacks_factory" not in project.get("entry-points", {})
    kinds = [type(callback).__module__ for callback in trainer(enable_checkpointing=True).callbacks]
    assert not [kind for kind in kinds if kind.startswith(lightning_hessian.__name__)]
    assert isinstance(lightning_hessian.HessianSpectrum(), pl.Callback)


def test_malicious_uploads_of_lightning_are_not_installed(project: dict[str, Any]) -> None:
    (wanted,) = (each for each in project["dependencies"] if each.startswith("lightning"))
    assert {"!=2.6.2", "!=2.6.3"} <= set(wanted.removeprefix("lightning").split(","))


def test_a_program_of_the_packages_name_is_the_module(project: dict[str, Any]) -> None:
    assert project["scripts"] == {"lightning-hessian": "lightning_hessian.__main__:main"}
    assert resolve_name(project["scripts"]["lightning-hessian"]) is __main__.main


def test_types_are_given_to_those_who_use_the_package() -> None:
    assert (Path(lightning_hessian.__file__).parent / "py.typed").is_file()
