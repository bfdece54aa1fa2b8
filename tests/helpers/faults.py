"""Raises an error at a call that is made while the package is at work in a fit."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from inspect import CO_GENERATOR
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Literal

from lightning.pytorch import Trainer

import lightning_hessian

PACKAGE = str(Path(lightning_hessian.__file__).parent)
KINDS: tuple[type[Exception], ...] = (
    KeyError,
    RuntimeError,
    OSError,
    ValueError,
    TypeError,
    AttributeError,
    MemoryError,
    RecursionError,
    StopIteration,
    NotImplementedError,
)

HOSTS = ("/loggers/", "/matplotlib/")
"""Whose calls are seen from outside only: files of the user's, and a million lines of drawing."""

Kind = Literal["ours", "guard", "host", "other"]
Site = tuple[str, str]
"""The innermost function of the package, and what is called: by it, or by what it has called."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What to raise, and where.

    Attributes:
        site: At which calls.
        number: At which of them, from 0.
        kind: Of the error; nobody holds it, as a traceback would keep alive what it has met.
    """

    site: Site
    number: int
    kind: type[Exception]


NOTHING = Fault(("", ""), 0, KeyError)
"""At no call, as each has a name."""


@dataclass
class Injector:
    """Counts the calls of each site in a fit, and raises at one of them.

    It sees all that is called while a function of the package runs, whoever wrote it: torch,
    Python's built-in functions, the module. Not the guard itself, whose only work is to catch. Of
    saving a checkpoint, writing to a logger and drawing, the call alone.

    Attributes:
        fault: To be raised; None to count the calls of all sites.
        calls: So far, by site.
        where: Functions of the package in which it was raised, the innermost first.
    """

    fault: Fault | None = None
    calls: dict[Site, int] = field(default_factory=dict)
    where: list[str] = field(default_factory=list)
    _known: dict[CodeType, tuple[Kind, str | None]] = field(default_factory=dict)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch the calls inside the block."""
        sys.setprofile(self._see)
        try:
            yield
        finally:
            sys.setprofile(None)

    def _see(self, frame: FrameType, event: str, called: Any) -> None:
        if event == "call":
            name = frame.f_code.co_name
        elif event == "c_call":
            name = called.__qualname__
        else:
            return
        # first what is cheap: all other calls of a fit cost no more than this
        if self.fault is not None and name != self.fault.site[1]:
            return
        if event == "c_call":
            place = self._place(frame)
            if place is not None:
                self._count((place, name), frame)
            return
        kind, _ = self._lookup(frame.f_code)
        place = self._place(frame.f_back)
        if kind == "ours" or (place is not None and kind != "guard"):
            self._count((place or "Lightning", name), frame)

    def _place(self, frame: FrameType | None) -> str | None:
        """The innermost function that is not other people's, if it is one of ours."""
        while frame is not None:
            kind, name = self._lookup(frame.f_code)
            if kind != "other":
                return name
            frame = frame.f_back
        return None

    def _lookup(self, code: CodeType) -> tuple[Kind, str | None]:
        if code not in self._known:
            self._known[code] = _describe(code)
        return self._known[code]

    def _count(self, site: Site, frame: FrameType) -> None:
        number = self.calls.get(site, 0)
        self.calls[site] = number + 1
        fault = self.fault
        if fault is not None and fault.site == site and fault.number == number:
            self.where = _stack(frame)
            # before its first line a generator would end by it without a word, as none can
            is_end = fault.kind is StopIteration and frame.f_code.co_flags & CO_GENERATOR
            raise (RuntimeError if is_end else fault.kind)("injected")


def draw(calls: dict[Site, int], generator: random.Random) -> Fault:
    """A fault at any site, all alike, in its first, its last, or any other call there."""
    site = generator.choice(sorted(calls))
    number = generator.choice((0, calls[site] - 1, generator.randrange(calls[site])))
    return Fault(site, number, generator.choice(KINDS))


def _describe(code: CodeType) -> tuple[Kind, str | None]:
    """Whose code it is, and the place of what it calls; None where we do not look."""
    path = code.co_filename
    if code.co_name == "__del__":
        # what a finaliser raises, whenever it runs, nobody can catch
        return "guard", None
    if path.startswith(PACKAGE):
        if path.endswith("guard.py") or code.co_name in ("state_key", "save_checkpoint"):
            return "guard", None
        return "ours", f"{Path(path).name}:{code.co_name}"
    if code is Trainer.save_checkpoint.__code__ or any(part in path for part in HOSTS):
        return "host", None
    return "other", None


def _stack(frame: FrameType | None) -> list[str]:
    names = []
    while frame is not None:
        path = frame.f_code.co_filename
        if path.startswith(PACKAGE):
            names.append(f"{Path(path).name}:{frame.f_code.co_name}:{frame.f_lineno}")
        frame = frame.f_back
    return names
