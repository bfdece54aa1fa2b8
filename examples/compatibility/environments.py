"""A virtual environment for each package, and a program run in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from examples.compatibility.outcome import Outcome
from examples.compatibility.packages import Package

ROOT = Path(__file__).parent.parent.parent
# releases that were malicious uploads, which a package may ask for by a range of its own
EXCLUDED = "lightning!=2.6.2,!=2.6.3\npytorch-lightning!=2.6.2,!=2.6.3\n"
PATIENCE = 1_800
"""Seconds for a program."""


def installed(package: Package, folder: Path) -> Path:
    """The interpreter of an environment that has a package and this library.

    Args:
        package: To be installed, by ``uv``, which keeps one copy of torch for all environments.
        folder: Of the environment; made if it is missing, used as it is otherwise.

    Returns:
        Path of the interpreter.
    """
    python = folder / "bin" / "python"
    done = folder / ".installed"
    if not done.exists():
        uv = (sys.executable, "-m", "uv")
        subprocess.run(
            [*uv, "venv", "--clear", "--python", sys.executable, str(folder)], check=True
        )
        excluded = folder / "excluded.txt"
        excluded.write_text(EXCLUDED, encoding="utf8")
        install = [*uv, "pip", "install", "--python", str(python), "--constraint", str(excluded)]
        subprocess.run([*install, "--editable", str(ROOT), *package.requirements], check=True)
        done.touch()
    return python


def outcome_of(program: str, python: Path, folder: Path) -> Outcome:
    """What comes of a program in its environment; a program that ends early leaves its last words.

    Args:
        program: Its module.
        python: Interpreter of the package's environment.
        folder: To work in; the outcome is kept there.

    Returns:
        The outcome.
    """
    path = folder / f"{program}.json"
    path.unlink(missing_ok=True)
    # nothing is fetched while training, and networks this small wait for a second thread
    settings = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    command = [str(python), "-W", "ignore", "-m", "examples.compatibility.run", program]
    try:
        done = subprocess.run(
            [*command, "--out", str(path)],
            cwd=ROOT,
            env={**os.environ, **settings},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
    except subprocess.TimeoutExpired:
        return Outcome(program=program, error=f"not done after {PATIENCE} s")
    if done.returncode:
        return Outcome(program=program, error=(done.stderr.strip() or "no words").splitlines()[-1])
    return Outcome.read(path)
