"""Runs a program in a process of its own, in which torch and Lightning are imported already."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import pty
import runpy
import select
import struct
import sys
import tempfile
import termios
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SECONDS = 300
LOADED = ["lightning.pytorch", "torch.utils.tensorboard", "matplotlib.pyplot", "sklearn.datasets"]
"""What others have written, and takes seconds to import; the package itself is not among it."""


@dataclass(frozen=True)
class Ended:
    """A program that has ended."""

    code: int
    output: str
    errors: str


def run_program(*arguments: str, seconds: float = SECONDS) -> Ended:
    """What ``python *arguments`` says and ends with: a script, ``-m`` and a module, or ``-c``.

    It is a fork of a server that nothing but :data:`LOADED` was imported in: no state of the tests
    and of other programs is there.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LOADED)
    with tempfile.TemporaryDirectory() as folder:
        said, failed = Path(folder, "output"), Path(folder, "errors")
        process = context.Process(target=_program, args=(arguments, said, failed), daemon=False)
        process.start()
        process.join(seconds)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise AssertionError(f"{arguments} hangs")
        # carriage returns are kept
        texts = (path.read_bytes().decode() for path in (said, failed))
        return Ended(process.exitcode, *texts)


def run_on_a_terminal(*arguments: str, rows: int = 40, columns: int = 120) -> str:
    """All that a program writes where its output and errors are one terminal of this size."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LOADED)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    name = Path(os.ttyname(theirs))
    process = context.Process(target=_program, args=(arguments, name, name), daemon=False)
    process.start()
    written = b""
    while process.is_alive() or select.select([ours], [], [], 0)[0]:
        if select.select([ours], [], [], 0.1)[0]:
            written += os.read(ours, 1 << 16)
    os.close(theirs)
    os.close(ours)
    assert process.exitcode == 0, written.decode()[-3000:]
    return written.decode()


def _program(arguments: tuple[str, ...], output: Path, errors: Path) -> None:
    """Become the program."""
    for place, path in ((1, output), (2, errors)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOCTTY), place)
    os.environ["TERM"] = "xterm"
    sys.stdout.reconfigure(line_buffering=os.isatty(1))
    os.chdir(ROOT)
    # networks as small as those of tests wait for a second thread longer than it works
    import torch

    torch.set_num_threads(1)
    kind, *rest = arguments
    if kind == "-c":
        sys.path.insert(0, str(ROOT))
        sys.argv = ["-c", *rest[1:]]
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    elif kind == "-m":
        sys.path.insert(0, str(ROOT))
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.path.insert(0, str(ROOT / Path(kind).parent))
        sys.argv = list(arguments)
        runpy.run_path(kind, run_name="__main__")
