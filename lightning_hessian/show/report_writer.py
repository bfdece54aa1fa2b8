"""Writes reports to the loggers of a Trainer, whatever they tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from lightning_hessian.records import Report
from lightning_hessian.show.charts import Charts, charts
from lightning_hessian.show.layout import lay_out
from lightning_hessian.show.leaves import leaves_of
from lightning_hessian.show.media import histograms
from lightning_hessian.show.scalars import Amount, tagged
from lightning_hessian.show.tab_entry import entry_bytes, tab_entry
from lightning_hessian.show.tensorboard import added_whole, tensorboard_loggers, write_entry


def keeps_rows(logger: Logger) -> bool:
    """Whether a logger writes a row of columns for each call, of whichever namespace."""
    return hasattr(getattr(logger, "experiment", None), "metrics_file_path")


class ReportWriter:
    """Scalars go to every logger; the tab's entries, figures, texts and charts to TensorBoard.

    Args:
        prefix: First part of each tag.
        amount: How many of the numbers are logged.
        custom_scalars: Whether to lay out a Custom Scalars page in each log directory, again where
            a report has more to show than those before.

    Raises:
        ValueError: If the amount is neither "few" nor "all".
    """

    def __init__(self, *, prefix: str, amount: Amount, custom_scalars: bool) -> None:
        if amount not in ("few", "all"):
            raise ValueError(
                f"`scalars` must be 'few' or 'all', got {amount!r}. Take 'few' for what one looks "
                "at and its intervals, 'all' for every number."
            )
        self._prefix = prefix
        self._amount = amount
        self._custom_scalars = custom_scalars
        self._laid_out: dict[str, Charts] = {}

    @rank_zero_only
    def write(self, loggers: Sequence[Logger], report: Report) -> None:
        """Write one report at its step, and flush; on the first process only.

        Args:
            loggers: The Trainer's.
            report: With numbers, or with a failure, whose reason is written as a text.

        Raises:
            Exception: What the first of the loggers that failed raised; the others have the report.
        """
        named = tagged(report, prefix=self._prefix, amount=self._amount)
        boards = list(tensorboard_loggers(loggers))
        errors = []
        for logger in [*(each for each in loggers if each not in boards), *boards]:
            write = self._write_board if logger in boards else self._write_row
            try:
                write(logger, report, named)
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]

    @rank_zero_only
    def write_images(
        self,
        loggers: Sequence[Logger],
        step: int,
        images: Mapping[str, npt.NDArray[np.uint8]],
    ) -> None:
        """Write pictures at a step, and flush; on the first process only.

        Args:
            loggers: The Trainer's.
            step: Of the report that they are of.
            images: Last part of the tag to image, ``(height, width, 3)``.
        """
        for logger in tensorboard_loggers(loggers):
            experiment = logger.experiment  # type: ignore[attr-defined]
            with added_whole(experiment):
                for name, image in images.items():
                    experiment.add_image(f"{self._prefix}/{name}", image, step, dataformats="HWC")

    def _write_row(self, logger: Logger, report: Report, named: Mapping[str, float]) -> None:
        """The numbers, for a logger of any kind."""
        # as Lightning's own rows do; elsewhere it would be a point in a curve of the user's
        row = {**named, "epoch": report.epoch} if keeps_rows(logger) else dict(named)
        drawn = histograms(logger, report, prefix=self._prefix)
        logger.log_metrics({**row, **drawn}, step=report.step)

    def _write_board(self, logger: Logger, report: Report, named: Mapping[str, float]) -> None:
        """The numbers, the tab's entry, texts and charts, for TensorBoard."""
        experiment = logger.experiment  # type: ignore[attr-defined]
        with added_whole(experiment):
            logger.log_metrics(dict(named), step=report.step)
            entry = entry_bytes(tab_entry(report, name=self._prefix))
            write_entry(experiment, entry, tag=f"{self._prefix}/report", step=report.step)
            self._write_texts(experiment, report)
            if report.failure is None:
                self._lay_out(experiment, report)

    def _write_texts(self, experiment: Any, report: Report) -> None:
        for leaf in leaves_of(report):
            if leaf.value is not None and leaf.shown.kind == "text":
                paragraphs = leaf.value if isinstance(leaf.value, tuple) else (leaf.value,)
                # two line ends: the text is shown as Markdown
                text = "\n\n".join(paragraphs)
                experiment.add_text(f"{self._prefix}/{leaf.tags[0]}", text, report.step)

    def _lay_out(self, experiment: Any, report: Report) -> None:
        if not self._custom_scalars:
            return
        shown = charts(report, prefix=self._prefix)
        known = self._laid_out.setdefault(str(experiment.get_logdir()), {})
        if not shown.keys() <= known.keys():
            known.update(shown)
            lay_out(experiment, title=f"{self._prefix}: {report.title}", charts=known)
