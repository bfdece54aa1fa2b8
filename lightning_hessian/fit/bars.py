"""A bar of ours among Lightning's, and lines that leave them whole."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

from lightning.pytorch import Trainer
from lightning_utilities.core import rank_zero
from tqdm.auto import tqdm

NAME = "Hessian"
UNIT = "HVP"


class Bar(Protocol):
    """Is on the terminal from its making until it is closed."""

    def update(self, count: int) -> Any:
        """So many more were done."""
        ...

    def close(self) -> None:
        """It is gone."""
        ...


def open_bar(trainer: Trainer, total: int) -> Bar | None:
    """A bar in the manner of the Trainer's own; None where that one is not shown.

    Nothing is drawn where the output is no terminal, and no notebook.
    """
    host = _shown(trainer)
    if host is None or not trainer.is_global_zero:
        return None
    if hasattr(host, "configure_columns"):
        return _rich_bar(trainer, host, total)
    options: dict[str, Any] = {"total": total, "desc": NAME, "unit": UNIT, "leave": False}
    if hasattr(host, "init_train_tqdm"):
        # its bars are of a class of their own, which does not see ours and would draw over it
        options |= {"file": sys.stdout, "dynamic_ncols": True}
        options["position"] = 2 * host.process_position + len(_running(host))
    return tqdm(**options, disable=None)


def between_bars(trainer: Trainer) -> AbstractContextManager[None]:
    """What is logged inside stands on lines of its own, above the Trainer's bars."""
    host = _shown(trainer)
    if host is None:
        return nullcontext()
    if _is_live(getattr(host, "progress", None)):
        return _through(sys.stderr)
    # of a host of another make only bars of ours are known, as those over checkpoints
    running = _running(host)
    kind: Any = type(running[0]) if running else tqdm
    stream = running[0].fp if running else sys.stderr
    if not stream.isatty():
        return nullcontext()
    aside: AbstractContextManager[None] = kind.external_write_mode(file=stream)
    return aside


def _shown(trainer: Trainer) -> Any:
    """The Trainer's own bar, if it has one that is not switched off."""
    host = trainer.progress_bar_callback
    return host if host is not None and getattr(host, "is_enabled", False) else None


def _running(host: Any) -> list[Any]:
    """The bars of tqdm that Lightning has on the terminal."""
    named = (vars(host).get(f"_{which}_progress_bar") for which in ("train", "val"))
    return [bar for bar in named if bar is not None and not bar.disable]


def _is_live(progress: Any) -> bool:
    """Whether it is a bar of Rich's on a terminal, which it draws anew all the time."""
    live = getattr(progress, "live", None)
    return live is not None and live.is_started and bool(progress.console.is_terminal)


def _rich_bar(trainer: Trainer, host: Any, total: int) -> Bar | None:
    """A task within Lightning's bar; before that has begun, a bar with the same columns."""
    # those whose bar it is have it
    from rich.progress import Progress as RichProgress

    progress, is_own = host.progress, False
    if progress is None or not progress.live.is_started:
        progress = RichProgress(*host.configure_columns(trainer), transient=True)
        is_own = True
    if not (progress.console.is_terminal or progress.console.is_jupyter):
        return None
    return _RichBar(progress, total, is_own=is_own)


class _RichBar:
    """A task of a Rich bar, shown while it is open.

    Lightning finds its tasks by their place in the list: ours stays there, hidden, for the next
    time, as to take it out would move those behind it.
    """

    def __init__(self, progress: Any, total: int, *, is_own: bool) -> None:
        self._progress = progress
        self._is_own = is_own
        if is_own:
            progress.start()
        ours = [task.id for task in progress.tasks if task.description == NAME]
        if ours:
            self._task = ours[0]
            progress.reset(self._task, total=total, visible=True)
        else:
            self._task = progress.add_task(NAME, total=total)

    def update(self, count: int) -> None:
        """So many more products were made."""
        self._progress.update(self._task, advance=count)
        # Lightning's own is drawn when it is told to, by a thread
        getattr(self._progress, "soft_refresh", self._progress.refresh)()

    def close(self) -> None:
        """Take it off the terminal."""
        self._progress.update(self._task, visible=False)
        self._progress.refresh()
        if self._is_own:
            self._progress.stop()


@contextmanager
def _through(stream: Any) -> Iterator[None]:
    """Lightning's messages go by way of Rich, which has put itself in the place of the stream."""
    logger: logging.Logger | None = rank_zero.log
    moved = []
    while logger is not None:
        moved += [
            (handler, handler.stream)
            for handler in logger.handlers
            if isinstance(handler, logging.StreamHandler)
            and handler.stream in (sys.__stderr__, sys.__stdout__)
        ]
        logger = logger.parent if logger.propagate else None
    for handler, _ in moved:
        handler.setStream(stream)
    try:
        yield
    finally:
        for handler, before in moved:
            handler.setStream(before)
