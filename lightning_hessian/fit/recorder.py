"""What becomes of reports: their log, the loggers, checkpoints and the files beside these."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_only

from lightning_hessian.fit.checkpoints import CheckpointReports
from lightning_hessian.fit.fingerprint import Fingerprint
from lightning_hessian.fit.report_log import ReportLog
from lightning_hessian.fit.room import Room
from lightning_hessian.options import check_flag
from lightning_hessian.records import Report
from lightning_hessian.show import (
    Amount,
    Figures,
    Gallery,
    Images,
    PictureWriter,
    ReportWriter,
    give_page,
    line,
    table,
    tagged,
)

R = TypeVar("R", bound=Report)


class Recorder(Generic[R]):
    """Keeps the reports of one callback, writes them, and carries them through checkpoints.

    ``draw`` names the figures that go with the latest report, given all of them; ``settings`` are
    all options that a report depends on, in words. Loggers get as many numbers as ``scalars`` says;
    with ``monitor`` other callbacks and schedulers get all of them to watch; with ``verbose`` each
    report is told in a line.
    """

    def __init__(
        self,
        kind: type[R],
        *,
        name: str,
        scalars: Amount,
        custom_scalars: bool,
        draw: Callable[[Sequence[R]], Figures],
        settings: str,
        monitor: bool = False,
        verbose: bool = False,
    ) -> None:
        check_flag("verbose", verbose)
        self.kind = kind
        self.name = name
        self.log: ReportLog[R] = ReportLog(kind, name=name, settings=settings)
        self._gallery = Gallery(draw)
        self._monitor = monitor
        self._verbose = verbose
        self._writer = ReportWriter(prefix=name, amount=scalars, custom_scalars=custom_scalars)
        self._pictures = PictureWriter(prefix=name)
        self._checkpoints: CheckpointReports | None = None
        self.room = Room()

    @property
    def reports(self) -> list[R]:
        """All so far."""
        return self.log.reports

    def begin_fit(self, trainer: Trainer) -> None:
        """There may be room on the disk again."""
        self.room.begin(trainer)
        self.log.begin_fit()

    def table(self, reports: Sequence[R]) -> str:
        """Reports as a table for the terminal, a line for each."""
        return table(self.kind, reports)

    def news(self) -> list[str]:
        """What is to be told of the latest report: its numbers, and notes that qualify them."""
        report = self.reports[-1]
        is_told = self._verbose and report.failure is None
        notes = [
            f"from step {report.step} on read with the note: {note}" for note in self.log.news()
        ]
        return [line(report), *notes] if is_told else notes

    def offer(self, trainer: Trainer, reports: Sequence[R]) -> None:
        """Put the numbers of these reports where callbacks look for what they monitor.

        On every process, as each decides by itself. A later report takes the place of an earlier
        one; what it did not measure, or failed to, stays as it was last known.
        """
        if not self._monitor:
            return
        for report in reports:
            if report.failure is None:
                trainer.callback_metrics.update(
                    {
                        tag: torch.tensor(value, dtype=torch.float64)
                        for tag, value in tagged(report, prefix=self.name).items()
                    }
                )

    @rank_zero_only
    def publish(self, trainer: Trainer, *, draws_all: bool) -> None:
        """Write the latest report and what is new in pictures, on the first process only."""
        report = self.reports[-1]
        self._log(trainer, partial(self._writer.write, trainer.loggers, report))
        if report.failure is None:
            draw = partial(self._gallery.next, self.reports, draws_all=draws_all)
            self._log(trainer, partial(self._log_images, trainer, report, draw))

    @rank_zero_only
    def publish_rest(self, trainer: Trainer) -> None:
        """Write the pictures of the latest report that were left out, as no other comes."""
        made = self.log.made
        if made:
            self._log(trainer, partial(self._log_images, trainer, made[-1], self._gallery.last))

    @rank_zero_only
    def publish_page(self, trainer: Trainer, reports: Mapping[str, Sequence[Report]]) -> None:
        """Give the page of callbacks' reports to the loggers that take one, as no others come."""
        if reports:
            self._log(trainer, partial(give_page, trainer.loggers, reports))

    def _log(self, trainer: Trainer, write: Callable[[], None]) -> None:
        if trainer.loggers:
            self.room.write(write, [logger.save_dir for logger in trainer.loggers])

    def _log_images(self, trainer: Trainer, report: R, draw: Callable[[], Images]) -> None:
        images = draw()
        if images:
            self._writer.write_images(trainer.loggers, report.step, images)
            self._pictures.write(trainer.loggers, report.step, images)

    def state(self, measured_at: Fingerprint | None, study: Mapping[str, Any]) -> dict[str, Any]:
        """The history as it travels in a checkpoint, if that has room for it.

        What the study remembers may be as large as the weights, and stays where there is little.
        """
        if not self.room.admits_history():
            return {}
        return self.log.state(measured_at, {} if self.room.is_short else study)

    def watch_checkpoints(self, checkpoints: CheckpointReports | None) -> None:
        """Let the files beside the checkpoints of a fit follow these; None when it is over."""
        if self._checkpoints is not None:
            self._checkpoints.end()
        self._checkpoints = checkpoints

    def settle_files(self) -> None:
        """Follow what was deleted and linked since."""
        if self._checkpoints is not None:
            self._checkpoints.settle()
