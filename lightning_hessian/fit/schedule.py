"""When the user wants a measurement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Interval = int | Literal["auto"] | None


@dataclass(frozen=True, slots=True)
class Schedule:
    """Questions that a fit asks; the start and the end of a fit are always due.

    Attributes:
        every_n_epochs: Measure at the end of each n-th epoch; None for never.
        every_n_train_steps: Measure after each n-th optimiser step, as ``trainer.global_step``
            counts; batches where optimisers are stepped past Lightning. None for never.
        at_checkpoints: Measure whenever a checkpoint is saved.
        is_planned: Whether the points are spread by the plan of a fit instead.
    """

    every_n_epochs: int | None = None
    every_n_train_steps: int | None = None
    at_checkpoints: bool = False
    is_planned: bool = False

    def __post_init__(self) -> None:
        for name in ("every_n_epochs", "every_n_train_steps"):
            interval = getattr(self, name)
            if interval is not None and (type(interval) is not int or interval < 1):
                auto = "'auto', " if name == "every_n_epochs" else ""
                raise ValueError(
                    f"`{name}` must be {auto}a whole number of at least 1, or None for never, got "
                    f"{interval!r}."
                )

    @classmethod
    def of(
        cls,
        *,
        every_n_epochs: Interval,
        every_n_train_steps: int | None,
        at_checkpoints: bool,
        has_limit: bool,
    ) -> Schedule:
        """From the options of a callback.

        "auto" leaves the points to the plan, or to the other moments where such are asked for;
        without a limit to plan by it is every epoch.
        """
        is_auto = every_n_epochs == "auto"
        others = every_n_train_steps is not None or at_checkpoints
        is_planned = is_auto and has_limit and not others
        if is_auto:
            every_n_epochs = None if has_limit else 1
        return cls(
            every_n_epochs=every_n_epochs,  # type: ignore[arg-type]
            every_n_train_steps=every_n_train_steps,
            at_checkpoints=at_checkpoints,
            is_planned=is_planned,
        )

    def is_due_after_step(self, before: int, after: int, stride: int = 1) -> bool:
        """Whether the number of steps has come to a multiple of the interval, or passed one."""
        # with two optimisers a batch is two steps, so that multiples are passed
        if self.every_n_train_steps is None:
            return False
        interval = self.every_n_train_steps * stride
        return after // interval > before // interval

    def is_due_after_epoch(self, epoch: int, stride: int = 1) -> bool:
        """Whether the epoch that ends, counted from zero, completes an interval."""
        every = self.every_n_epochs
        return every is not None and (epoch + 1) % (every * stride) == 0
