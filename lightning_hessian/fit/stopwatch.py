"""The seconds that a callback takes: shown at the end of a fit, and nothing is decided by them."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from typing_extensions import Self


class Stopwatch:
    """Runs inside ``with stopwatch:``, which may be nested."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._depth = 0
        self.begin()

    def begin(self) -> None:
        """A fit begins: from here on, from zero."""
        self._begun = self._entered = self._clock()
        self._spent = 0.0

    def __enter__(self) -> Self:
        self._depth += 1
        if self._depth == 1:
            self._entered = self._clock()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._depth -= 1
        if self._depth == 0:
            self._spent += self._clock() - self._entered

    @property
    def spent(self) -> float:
        """Seconds inside, up to now."""
        return self._spent + (self._clock() - self._entered if self._depth else 0.0)

    @property
    def passed(self) -> float:
        """Seconds since the fit began."""
        return self._clock() - self._begun
