"""Weights & Biases: media are logged as numbers are."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
from lightning.pytorch.loggers import Logger

from lightning_hessian.records import Report, SpectralDensity
from lightning_hessian.show.media.taker import Image, has_method

NUM_BUCKETS = 128
"""At most 512 are taken."""
NARROWEST = 1e-9


class WandbTaker:
    """Logs by ``log_metrics``, which says the step as Lightning does for all numbers.

    Given a step of its own, W&B would drop whatever came with a lower one.
    """

    def __init__(self, logger: Logger) -> None:
        self._logger = logger

    @staticmethod
    def is_of(logger: Logger) -> bool:
        """Whether it logs to Weights & Biases."""
        return has_method(logger, "define_metric")

    def take_image(self, image: Image, *, name: str, step: int) -> None:
        """Under its name, with a slider over steps."""
        self._log(name, import_module("wandb").Image(image), step)

    def take_page(self, page: str, *, name: str, step: int) -> None:
        """As HTML, to which no style sheet from the network is added."""
        html = import_module("wandb").Html(page, inject=False, data_is_not_path=True)
        self._log(f"{name}/page", html, step)

    def _log(self, key: str, value: Any, step: int) -> None:
        self._logger.log_metrics({key: value}, step=step)


def histograms(logger: Logger, report: Report, *, prefix: str) -> dict[str, Any]:
    """The density as a histogram in numbers of eigenvalues, for a row of W&B's; no other has it."""
    density = getattr(report, "density", None)
    if density is None or not WandbTaker.is_of(logger):
        return {}
    counts = _histogram(density, report.num_parameters)
    return {f"{prefix}/density": import_module("wandb").Histogram(np_histogram=counts)}


def _histogram(density: SpectralDensity, size: int) -> tuple[Any, Any]:
    nodes, weights = density.nodes.numpy(), density.weights.numpy()
    low, high = float(nodes.min()), float(nodes.max())
    largest = max(abs(low), abs(high))
    # of one value, or as good as one, no buckets could be told apart
    room = 0.0 if high - low > NARROWEST * largest else (largest or 1.0) / 2
    return np.histogram(
        nodes, bins=NUM_BUCKETS, range=(low - room, high + room), weights=weights * size
    )
