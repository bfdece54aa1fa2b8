"""When to measure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Questions that a fit asks; the start and the end of a fit are always due.

    Attributes:
        every_n_epochs: Measure at the end of each n-th epoch; None for never.
        every_n_train_steps: Measure after each n-th optimiser step; None for never.
        at_checkpoints: Measure whenever a checkpoint is saved.
    """

    every_n_epochs: int | None
    every_n_train_steps: int | None
    at_checkpoints: bool

    def __post_init__(self) -> None:
        for name in ("every_n_epochs", "every_n_train_steps"):
            interval = getattr(self, name)
            if interval is not None and (type(interval) is not int or interval < 1):
                raise ValueError(
                    f"`{name}` must be a whole number of at least 1, or None for never, got "
                    f"{interval!r}."
                )

    def is_due_after_step(self, global_step: int) -> bool:
        """Whether the number of optimiser steps done is a multiple of the interval."""
        every = self.every_n_train_steps
        return every is not None and global_step % every == 0

    def is_due_after_epoch(self, epoch: int) -> bool:
        """Whether the epoch that ends, counted from zero, completes an interval."""
        every = self.every_n_epochs
        return every is not None and (epoch + 1) % every == 0
