"""How far a measurement is, and what it costs, told on the terminal."""

from __future__ import annotations

from contextlib import suppress
from types import TracebackType

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_info
from typing_extensions import Self

from lightning_hessian.fit.bars import Bar, between_bars, open_bar
from lightning_hessian.loss import TrainingLoss
from lightning_hessian.records import Mode

HVP_UNITS = {"exact": (1.5, 3.0), "finite_difference": (2.0, 3.0)}
"""Gradients that a product takes, from and to."""


class Progress:
    """A bar among Lightning's, only where these are shown; the price once a fit.

    A terminal that goes away costs the bar, and not the measurement.
    """

    def __init__(self, trainer: Trainer, name: str) -> None:
        self._trainer = trainer
        self._name = name
        self._has_told = False
        self._bar: Bar | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        bar, self._bar = self._bar, None
        if bar is not None:
            with suppress(OSError):
                bar.close()

    def begin(
        self,
        loss: TrainingLoss,
        mode: Mode,
        max_hvps: int,
        is_planned: bool,
        gradient_seconds: float,
    ) -> None:
        """A gradient has been measured; at most so many products follow; a plan has told of it."""
        if not (self._has_told or is_planned):
            self._has_told = True
            units = HVP_UNITS[loss.products.quality.method]
            low, high = (unit * max_hvps * gradient_seconds for unit in units)
            with between_bars(self._trainer):
                rank_zero_info(
                    f"{self._name}: {loss.size:,} parameters, {loss.sample.description}, "
                    f"{mode} mode. A gradient over them takes {gradient_seconds:.3g} s; a report "
                    f"costs at most {max_hvps} Hessian-vector products, about {low:.3g} to "
                    f"{high:.3g} s, and fewer when its tolerances are met earlier."
                )
        if max_hvps:
            with suppress(OSError):
                self._bar = open_bar(self._trainer, max_hvps)

    def advance(self, num_products: int) -> None:
        """So many more products were made."""
        if self._bar is not None:
            try:
                self._bar.update(num_products)
            except OSError:
                self._bar = None
