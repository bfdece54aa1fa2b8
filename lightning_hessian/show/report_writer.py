"""Writes reports to the loggers of a Trainer, whatever they tell."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from lightning_hessian.records import Report
from lightning_hessian.show.tensorboard import Charts, tensorboard_loggers, write_layout

AnyReport = TypeVar("AnyReport", bound=Report)


class ReportWriter(ABC, Generic[AnyReport]):
    """Scalars go to every logger; figures, texts and charts to TensorBoard.

    A subclass says which scalars and charts a kind of report has, and what else TensorBoard gets.

    Args:
        prefix: First part of each tag, and the sub-run that holds the Custom Scalars page.
        custom_scalars: Whether to lay out a Custom Scalars page, once for each log directory.
    """

    title: str
    """Of the Custom Scalars page, after the prefix."""

    def __init__(self, *, prefix: str, custom_scalars: bool) -> None:
        self._prefix = prefix
        self._custom_scalars = custom_scalars
        self._laid_out: set[str] = set()

    @abstractmethod
    def scalars(self, report: AnyReport) -> dict[str, float]:
        """Name the numbers of a report.

        Args:
            report: To be logged.

        Returns:
            Whole tag to finite value.
        """

    @abstractmethod
    def charts(self, report: AnyReport) -> Charts:
        """What the Custom Scalars page shows.

        Args:
            report: With numbers.

        Returns:
            Title to kind and tags of each chart.
        """

    @abstractmethod
    def write_more(self, experiment: Any, report: AnyReport) -> None:
        """Write what only TensorBoard can show of a report with numbers.

        Args:
            experiment: A ``SummaryWriter``.
            report: With numbers.
        """

    @rank_zero_only
    def write(
        self,
        loggers: Sequence[Logger],
        report: AnyReport,
        figures: Mapping[str, npt.NDArray[np.uint8]],
    ) -> None:
        """Write one report at its global step, and flush; on the first process only.

        Args:
            loggers: The Trainer's.
            report: With numbers, or with a failure, whose reason is written as a text.
            figures: Last part of the tag to image, ``(height, width, 3)``.
        """
        step = report.global_step
        for logger in loggers:
            logger.log_metrics(self.scalars(report), step=step)
        for logger in tensorboard_loggers(loggers):
            experiment = logger.experiment  # type: ignore[attr-defined]
            if report.failure is None:
                self._lay_out(logger, report)
                self.write_more(experiment, report)
            else:
                experiment.add_text(f"{self._prefix}/failure", report.failure, step)
            for name, image in figures.items():
                experiment.add_image(f"{self._prefix}/{name}", image, step, dataformats="HWC")
            experiment.flush()

    def _lay_out(self, logger: Logger, report: AnyReport) -> None:
        directory = logger.log_dir
        if self._custom_scalars and directory and directory not in self._laid_out:
            charts = self.charts(report)
            write_layout(directory, prefix=self._prefix, title=self.title, charts=charts)
            self._laid_out.add(directory)
