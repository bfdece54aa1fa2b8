"""The default tests at the versions that ``pyproject.toml`` admits: ``python -m tests.versions``.

``uv`` makes an environment for each pair of a Python and a choice of versions: ``lowest``, where
each requirement that is named there has the lowest version that it admits, and ``highest``. A
Python that is not on this machine is said and left out.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
UV = (sys.executable, "-m", "uv")
RESOLUTIONS = {"lowest": "lowest-direct", "highest": "highest"}
# all that is named has files for the oldest Python; for newer ones the lowest versions have not
PAIRS = (("3.10", "lowest"), ("3.11", "highest"), ("3.12", "highest"), ("3.13", "highest"))
DEFAULT_TESTS = ("-m", "not slow and not example and not cross_library")
# old versions of what is used are deprecated by newer ones of what these use: nobody's fault,
# and the two names of Lightning come in two versions
TOLD_ELSEWHERE = (
    "-Wignore::DeprecationWarning",
    "-Wignore::PendingDeprecationWarning",
    "-Wignore::FutureWarning",
    "-Wignore:The loaded checkpoint was produced with Lightning",
)


def has_python(version: str) -> bool:
    """Whether there is such an interpreter on this machine."""
    found = subprocess.run(
        [*UV, "python", "find", "--no-python-downloads", version], capture_output=True
    )
    return found.returncode == 0


def made(folder: Path, version: str, choice: str) -> Path:
    """The interpreter of an environment that has this project at a choice of versions."""
    environment = folder.absolute() / f"{version}-{choice}"
    python = environment / "bin" / "python"
    subprocess.run([*UV, "venv", "--clear", "--python", version, str(environment)], check=True)
    install = [*UV, "pip", "install", "--python", str(python)]
    resolution = ["--resolution", RESOLUTIONS[choice]]
    subprocess.run([*install, *resolution, "--editable", f"{ROOT}[dev]"], check=True)
    return python


def passes(python: Path, tests: list[str]) -> bool:
    """Whether tests pass by an interpreter, each process with one thread."""
    done = subprocess.run(
        [str(python), "-m", "pytest", "-q", "-n", "auto", *DEFAULT_TESTS, *TOLD_ELSEWHERE, *tests],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"},
    )
    return done.returncode == 0


def main() -> None:
    """Run them one after the other; the exit code tells whether all passed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("runs/versions"))
    pythons = [version for version, _ in PAIRS]
    parser.add_argument("--python", action="append", choices=pythons, help="may be repeated")
    parser.add_argument("tests", nargs="*", help="of pytest; none for all")
    options = parser.parse_args()
    failed = []
    for version, choice in PAIRS:
        if options.python and version not in options.python:
            continue
        if not has_python(version):
            print(f"Python {version} is not on this machine: {choice} not tried", flush=True)
        elif not passes(made(options.folder, version, choice), options.tests):
            failed.append(f"Python {version}, {choice} versions")
    if failed:
        sys.exit(f"failed: {'; '.join(failed)}")


if __name__ == "__main__":
    main()
