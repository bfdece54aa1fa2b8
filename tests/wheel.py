"""A built wheel in an empty environment, by the README's example: ``python -m tests.wheel``."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
UV = (sys.executable, "-m", "uv")
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


def main() -> None:
    """Build, look at the description, install with dependencies, run."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run([*UV, "build", "--out-dir", str(folder / "dist"), str(ROOT)], check=True)
        built = sorted(map(str, (folder / "dist").glob("lightning_hessian-*")))
        subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *built], check=True)
        (wheel,) = (path for path in built if path.endswith(".whl"))
        environment, python = folder / "environment", folder / "environment" / "bin" / "python"
        subprocess.run([*UV, "venv", "--python", sys.executable, str(environment)], check=True)
        constraints = ["--constraint", str(ROOT / "constraints.txt")]
        install = [*UV, "pip", "install", "--python", str(python), *constraints]
        subprocess.run([*install, wheel], check=True)
        program = folder / "program.py"
        program.write_text(GIVEN + first_example() + ASKED, encoding="utf8")
        subprocess.run([str(python), str(program)], cwd=folder, check=True)


if __name__ == "__main__":
    main()
