"""How far a measurement is, and what it costs, told on the terminal."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_info
from tqdm.auto import tqdm
from typing_extensions import Self

from lightning_hessian.loss import TrainingLoss
from lightning_hessian.records import Mode

HVP_UNITS = {"exact": (1.5, 3.0), "finite_difference": (2.0, 3.0)}
"""Gradients that a product takes, from and to."""


class Progress:
    """A bar of its own beside Lightning's, only where that one is shown; the price once a fit."""

    def __init__(self, trainer: Trainer, name: str) -> None:
        self._trainer = trainer
        self._name = name
        self._has_told = False
        self._bar: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

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
            rank_zero_info(
                f"{self._name}: {loss.size:,} parameters, {loss.sample.description}, {mode} mode. "
                f"A gradient over them takes {gradient_seconds:.3g} s; a report costs at most "
                f"{max_hvps} Hessian-vector products, about {low:.3g} to {high:.3g} s, and fewer "
                "when its tolerances are met earlier."
            )
        host = self._trainer.progress_bar_callback
        has_host = host is not None and getattr(host, "is_enabled", False)
        shown = has_host and self._trainer.is_global_zero
        self._bar = tqdm(total=max_hvps, desc="Hessian", unit="HVP", leave=False, disable=not shown)

    def advance(self, num_products: int) -> None:
        """So many more products were made."""
        if self._bar is not None:
            self._bar.update(num_products)
