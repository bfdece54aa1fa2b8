"""TensorBoard as a process of its own, for what is looked at: pictures, benchmarks and tests."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import urlopen

SECONDS = 60
INSTALLED = (sys.executable, "-m", "tensorboard.main")
ORDINARY = (
    sys.executable,
    "-c",
    "from tensorboard import default, program; "
    "board = program.TensorBoard(default.get_static_plugins()); "
    "import sys; board.configure(['', *sys.argv[1:]]); board.main()",
)
"""Without the plugins that other packages bring."""


@dataclass
class Board:
    """A TensorBoard that runs."""

    url: str
    log: Path

    def status(self, path: str, **query: str) -> int:
        """What it answers to a request, as a number."""
        try:
            return self._answer(path, query)[0]
        except HTTPError as error:
            error.close()
            return error.code

    def get(self, path: str, **query: str) -> Any:
        """What it answers, as JSON."""
        return json.loads(self._answer(path, query)[1])

    def wait_for(self, condition: Any, what: str) -> Any:
        """Until that is true which is asked of the board; it reads its files now and then."""
        end = time.monotonic() + SECONDS
        while not (found := condition(self)):
            assert time.monotonic() < end, f"no {what}: {self.log.read_text()}"
            time.sleep(0.1)
        return found

    def lines(self) -> list[str]:
        """What it said, without its address."""
        return re.sub(r"http://\S+", "ADDRESS", self.log.read_text()).splitlines()

    def _answer(self, path: str, query: dict[str, str]) -> tuple[int, bytes]:
        words = "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())
        with urlopen(f"{self.url}{path}?{words}", timeout=SECONDS) as response:
            return response.status, response.read()


@contextmanager
def served(
    logdir: Path, scratch: Path, *flags: str, start: tuple[str, ...] = INSTALLED
) -> Iterator[Board]:
    """A process of TensorBoard over a folder, at a port that is free."""
    log = scratch / "tensorboard.log"
    command = (*start, "--logdir", str(logdir), "--port", "0", *flags)
    with (
        log.open("wb") as written,
        subprocess.Popen(command, cwd=scratch, stdout=written, stderr=written) as process,
    ):
        try:
            yield Board(_address(log, process), log)
        finally:
            process.terminate()


def _address(log: Path, process: subprocess.Popen[bytes]) -> str:
    end = time.monotonic() + SECONDS
    while not (found := re.search(r" at (http://\S+/) \(Press", log.read_text())):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.05)
    return found[1]
