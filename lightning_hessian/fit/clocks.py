"""Clocks of the Trainer that would count the time of a measurement as time of training."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning.pytorch import Trainer


@contextmanager
def stopped_clocks(trainer: Trainer) -> Iterator[None]:
    """Take the time spent inside off ``max_time``, ``train_time_interval`` and timed validation.

    Lightning keeps when each of these began as a time of the monotonic clock. They are moved
    forward by what was spent, so that a rule by the clock fires after as much training as without
    us. A version of Lightning that keeps them elsewhere counts the measurement as training. What a
    callback of the user's keeps under the same name is its own.
    """
    start = time.monotonic()
    try:
        yield
    finally:
        elapsed = time.monotonic() - start
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            kinds = {kind.__name__ for kind in type(callback).__mro__}
            begun = getattr(callback, "_start_time", None) if "Timer" in kinds else None
            if isinstance(begun, dict):
                begun.update({k: t + elapsed for k, t in begun.items() if isinstance(t, float)})
            if "ModelCheckpoint" in kinds:
                _postpone(callback, "_last_time_checked", elapsed)
        _postpone(trainer, "_last_val_time", elapsed)


def _postpone(owner: Any, name: str, seconds: float) -> None:
    since = getattr(owner, name, None)
    if isinstance(since, float):
        setattr(owner, name, since + seconds)
