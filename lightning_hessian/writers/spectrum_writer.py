"""Writes spectrum reports to the loggers of a Trainer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from lightning_hessian.results import SpectrumReport
from lightning_hessian.writers.scalars import spectrum_scalars
from lightning_hessian.writers.tensorboard import tensorboard_loggers, write_density, write_layout


class SpectrumWriter:
    """Scalars go to every logger; histograms, figure, text and charts to TensorBoard.

    Args:
        prefix: First part of each tag, and the sub-run that holds the Custom Scalars page.
        custom_scalars: Whether to lay out a Custom Scalars page, once for each log directory.
    """

    def __init__(self, *, prefix: str, custom_scalars: bool) -> None:
        self._prefix = prefix
        self._custom_scalars = custom_scalars
        self._laid_out: set[str] = set()

    @rank_zero_only
    def write(
        self,
        loggers: Sequence[Logger],
        report: SpectrumReport,
        figure: npt.NDArray[np.uint8] | None,
    ) -> None:
        """Write one report at its global step, and flush; on the first process only.

        Args:
            loggers: The Trainer's.
            report: With numbers, or with a failure, whose reason is written as a text.
            figure: Of the density, ``(height, width, 3)``.
        """
        step = report.global_step
        for logger in loggers:
            logger.log_metrics(spectrum_scalars(report, prefix=self._prefix), step=step)
        for logger in tensorboard_loggers(loggers):
            self._lay_out(logger)
            experiment = logger.experiment  # type: ignore[attr-defined]
            if report.density is not None:
                size = report.num_parameters
                write_density(experiment, report.density, prefix=self._prefix, size=size, step=step)
            if figure is not None:
                experiment.add_image(f"{self._prefix}/spectrum", figure, step, dataformats="HWC")
            if report.failure is not None:
                experiment.add_text(f"{self._prefix}/failure", report.failure, step)
            experiment.flush()

    def _lay_out(self, logger: Logger) -> None:
        directory = logger.log_dir
        if self._custom_scalars and directory and directory not in self._laid_out:
            write_layout(directory, prefix=self._prefix)
            self._laid_out.add(directory)
