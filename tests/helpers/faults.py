"""Raises an error at the n-th call of any function of the package inside a fit."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import lightning_hessian

PACKAGE = str(Path(lightning_hessian.__file__).parent)


class InjectedError(Exception):
    """Nothing in the package expects it."""


@dataclass
class Injector:
    """Counts calls, and raises at one of them.

    Attributes:
        at: Number of the call at which to raise; -1 for none.
        error: What to raise.
        calls: So far.
        where: Functions of the package in which it was raised, the innermost first.
    """

    at: int = -1
    error: Exception = field(default_factory=lambda: InjectedError("injected"))
    calls: int = 0
    where: list[str] = field(default_factory=list)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch the calls inside the block."""
        sys.setprofile(self._see)
        try:
            yield
        finally:
            sys.setprofile(None)

    def _see(self, frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(PACKAGE):
            return
        # the guard itself, whose only work is to catch, and what gives an attribute to Lightning
        if code.co_filename.endswith("guard.py") or code.co_name == "state_key":
            return
        self.calls += 1
        if self.calls - 1 == self.at:
            self.where = _stack(frame)
            raise self.error


def _stack(frame: FrameType | None) -> list[str]:
    names = []
    while frame is not None:
        path = frame.f_code.co_filename
        if path.startswith(PACKAGE):
            names.append(f"{Path(path).name}:{frame.f_code.co_name}")
        frame = frame.f_back
    return names
