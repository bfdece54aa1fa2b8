"""Signals that arrive during a measurement: held back until the state is the user's again."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from lightning_hessian.errors import InterruptedMeasurementError
from lightning_hessian.sandbox import Sandbox

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")


class Interruptions:
    """Holds back what would run a signal handler in the middle of a measurement.

    A handler may save a checkpoint (a cluster's requeue signal), and must not find the weights of
    the sandbox; a ``KeyboardInterrupt`` must not fall into the middle of a restoration. So a signal
    is noted, the measurement is abandoned at its next batch, everything is put back, and then the
    signal is raised again for the handler that was there. A second Ctrl-C is passed on at once,
    unless the state is just being put back.
    """

    def __init__(self) -> None:
        self._pending: list[int] = []
        self._handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}

    @contextmanager
    def held_back(self) -> Iterator[None]:
        """Hold signals back inside; those that came are raised again at the end.

        Only signals with a Python handler are held back, and only in the main thread, the one in
        which Python runs handlers.
        """
        self._handlers = _python_handlers()
        try:
            for signum in self._handlers:
                signal.signal(signum, self._note)
            yield
        finally:
            self.release()

    def release(self) -> None:
        """Hold nothing back any more, and raise again what came; nothing where none is held."""
        # Ctrl-C last: from then on it may end this very loop
        for signum, handler in reversed(self._handlers.items()):
            signal.signal(signum, handler)
        self._handlers = {}  # they hold what the user gave them, and Lightning's a Trainer
        pending, self._pending = self._pending, []
        for signum in dict.fromkeys(pending):
            signal.raise_signal(signum)

    def poll(self) -> None:
        """Abandon the measurement if a signal waits; called before each batch of it."""
        if self._pending:
            name = signal.Signals(self._pending[0]).name
            raise InterruptedMeasurementError(f"{name} arrived during the measurement")

    def _note(self, signum: int, frame: FrameType | None) -> None:
        is_second = signum == signal.SIGINT and signum in self._pending
        if is_second and not _puts_back(frame):
            self._handlers[signum](signum, frame)
        self._pending.append(signum)


def _puts_back(frame: FrameType | None) -> bool:
    """Whether the code that a signal met is on its way out of a sandbox."""
    leaving = (Sandbox.__exit__.__code__, Sandbox.close.__code__)
    while frame is not None and frame.f_code not in leaving:
        frame = frame.f_back
    return frame is not None


def _python_handlers() -> dict[int, Callable[[int, FrameType | None], Any]]:
    if threading.current_thread() is not threading.main_thread():
        return {}
    numbers = (int(getattr(signal, name)) for name in _NAMES if hasattr(signal, name))
    handlers = ((number, signal.getsignal(number)) for number in numbers)
    return {number: handler for number, handler in handlers if callable(handler)}
