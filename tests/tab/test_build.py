"""The page that travels with the package is what its sources are built to."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from lightning_hessian.tab.plugin import SCRIPTS, STATIC

pytestmark = pytest.mark.slow
FRONTEND = STATIC.parent / "frontend"


def npm(folder: Path, *arguments: str) -> None:
    done = subprocess.run(["npm", *arguments], cwd=folder, capture_output=True, text=True)
    said = (done.stdout + done.stderr)[-3000:]
    if done.returncode and any(word in said for word in ("ENOTFOUND", "ETIMEDOUT", "ECONNREFUSED")):
        pytest.skip(f"npm reaches no registry: {said[-200:]}")
    assert done.returncode == 0, said


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, with what it is built from as the lock file has it."""
    if shutil.which("npm") is None:
        pytest.skip("the page is built by node, which is not here")
    copy = tmp_path_factory.mktemp("tab") / "frontend"
    shutil.copytree(FRONTEND, copy, ignore=shutil.ignore_patterns("node_modules"))
    npm(copy, "ci", "--no-audit", "--no-fund")
    return copy


def test_the_sources_have_no_error_of_types(sources: Path) -> None:
    npm(sources, "run", "check")


def test_what_is_built_anew_is_what_travels_with_the_package(sources: Path) -> None:
    npm(sources, "run", "build")
    built = {path.name: path.read_bytes() for path in (sources.parent / "static").iterdir()}
    kept = {path.name: path.read_bytes() for path in STATIC.iterdir()}
    assert built.keys() == kept.keys() >= set(SCRIPTS)
    other = [name for name, content in built.items() if content != kept[name]]
    words = "run `npm ci && npm run build` in lightning_hessian/tab/frontend"
    assert other == [], words
