"""A built wheel in an empty environment, by the README's example: ``python -m tests.wheel``."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from examples.board import served

ROOT = Path(__file__).parent.parent
UV = (sys.executable, "-m", "uv")
LARGEST = 3_000_000
"""Bytes of a wheel: half of it draws surfaces."""
# what the README leaves to the reader
GIVEN = """
from lightning.pytorch.demos.boring_classes import BoringDataModule, BoringModel
model, datamodule = BoringModel(), BoringDataModule()
"""
ASKED = """
import pathlib
import lightning_hessian
assert "site-packages" in lightning_hessian.__file__, lightning_hessian.__file__
(callback,) = (c for c in trainer.callbacks if isinstance(c, HessianSpectrum))
assert callback.reports and not any(report.failure for report in callback.reports)
assert list(pathlib.Path("lightning_logs").rglob("events.*"))
"""


def first_example() -> str:
    """The first block of Python in the README."""
    text = (ROOT / "README.md").read_text(encoding="utf8")
    found = re.search(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert found is not None
    return found[1]


def look_into(wheel: str) -> None:
    """The tab's page travels as it was built, and what it is built from does not."""
    tab = "lightning_hessian/tab/"
    with zipfile.ZipFile(wheel) as file:
        names = {name.removeprefix(tab) for name in file.namelist() if name.startswith(tab)}
    assert {"plugin.py", "static/index.js", "static/surface.js"} <= names, names
    assert not [name for name in names if name.startswith("frontend")], names
    size = Path(wheel).stat().st_size
    assert size < LARGEST, f"{wheel} has {size:,} bytes"
    print(f"{wheel}: {size:,} bytes")


def look_at_tab(python: Path, folder: Path) -> None:
    """The environment's own TensorBoard lists the tab, and serves it the run's reports."""
    start = (str(python), "-m", "tensorboard.main")
    with served(folder / "lightning_logs", folder, start=start) as board:
        (run,) = board.wait_for(lambda it: it.get("data/plugin/hessian/series"), "reports")
        assert board.get("data/plugins_listing")["hessian"]["enabled"]
        read = board.get("data/plugin/hessian/entries", run=run)
        assert read["entries"], read
        assert read["problems"] == [], read
        assert board.status("data/plugin/hessian/index.js") == 200
    print(f"the tab has {len(read['entries'])} reports of {run}")


def main() -> None:
    """Build, look at the description, install with dependencies, run, look at the tab."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run([*UV, "build", "--out-dir", str(folder / "dist"), str(ROOT)], check=True)
        built = sorted(map(str, (folder / "dist").glob("lightning_hessian-*")))
        subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *built], check=True)
        (wheel,) = (path for path in built if path.endswith(".whl"))
        look_into(wheel)
        environment, python = folder / "environment", folder / "environment" / "bin" / "python"
        subprocess.run([*UV, "venv", "--python", sys.executable, str(environment)], check=True)
        constraints = ["--constraint", str(ROOT / "constraints.txt")]
        install = [*UV, "pip", "install", "--python", str(python), *constraints]
        subprocess.run([*install, wheel], check=True)
        program = folder / "program.py"
        program.write_text(GIVEN + first_example() + ASKED, encoding="utf8")
        subprocess.run([str(python), str(program)], cwd=folder, check=True)
        look_at_tab(python, folder)


if __name__ == "__main__":
    main()
