"""How far a measurement is, told on the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning.pytorch import Trainer
from tqdm.auto import tqdm


@contextmanager
def progress(trainer: Trainer, max_hvps: int) -> Iterator[Any]:
    """Show a bar of its own beside Lightning's, only where that one is shown.

    Args:
        trainer: Running a fit.
        max_hvps: Length of the bar.

    Yields:
        The bar; ``update(n)`` moves it on.
    """
    host = trainer.progress_bar_callback
    shown = host is not None and getattr(host, "is_enabled", False) and trainer.is_global_zero
    with tqdm(total=max_hvps, desc="Hessian", unit="HVP", leave=False, disable=not shown) as bar:
        yield bar
