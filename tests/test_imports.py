"""The architecture: data flows one way, and heavy libraries stay where they belong."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import lightning_hessian

PACKAGE = Path(__file__).parent.parent / "lightning_hessian"
RANKS = {
    "errors": 0,
    "whole_files": 0,
    "statistics": 0,
    "tab": 0,
    "theory": 0,
    "records": 1,
    "options": 2,
    "linalg": 3,
    "processes": 3,
    "show": 3,
    "sandbox": 4,
    "data": 5,
    "loss": 6,
    "sample_losses": 7,
    "hvp": 8,
    "engines": 9,
    "fit": 11,
    "studies": 10,
    "callbacks": 12,
    "analysis": 13,
    "configurations": 14,
    "reading": 14,
    "viewing": 15,
    "cli": 15,
    "__main__": 16,
}
ONLY_IN = {
    "lightning": {
        "analysis",
        "callbacks",
        "cli",
        "data",
        "fit",
        "hvp",
        "loss",
        "processes",
        "reading",
        "sample_losses",
        "sandbox",
        "show",
    },
    # only users import it, which takes a while
    "pytorch_lightning": set(),
    "matplotlib": {"show"},
    "tensorboard": {"show", "tab", "viewing"},
    "torch.utils.tensorboard": {"show"},
}
FILES = sorted(
    path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.stem != "__init__"
)


def test_tensorboard_finds_the_tab_without_importing_torch_or_lightning() -> None:
    program = "import sys, lightning_hessian.tab.plugin; print(*sys.modules)"
    made = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert not {"torch", "lightning", "matplotlib", "numpy.random"} & set(made.stdout.split())


def test_what_is_public_is_found_in_its_room_and_nothing_else_is() -> None:
    assert sorted(lightning_hessian._ROOM_OF) == sorted(lightning_hessian.__all__)
    for name in lightning_hessian.__all__:
        assert getattr(lightning_hessian, name) is not None
        assert name in dir(lightning_hessian)
    with pytest.raises(
        AttributeError, match="module 'lightning_hessian' has no attribute 'HesianSpectrum'"
    ):
        lightning_hessian.HesianSpectrum  # noqa: B018


def place(path: Path) -> str:
    """The package or module of the first level that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in it the import stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            yield node.module or ""


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_file_imports_lower_ranks_or_its_own_folder_only(path: Path) -> None:
    for module in imported(path):
        first, _, rest = module.partition(".")
        if first == "lightning_hessian":
            other = rest.partition(".")[0]
            assert other == place(path) or RANKS[other] < RANKS[place(path)], module


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_host_libraries_are_imported_where_they_belong(path: Path) -> None:
    for module in imported(path):
        for library, places in ONLY_IN.items():
            if module == library or module.startswith(f"{library}."):
                assert place(path) in places, module
