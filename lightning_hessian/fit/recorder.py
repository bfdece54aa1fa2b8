"""What becomes of reports: the history of a callback, its loggers, the files beside checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_only

from lightning_hessian.fit.checkpoints import CheckpointReports
from lightning_hessian.fit.fingerprint import Fingerprint
from lightning_hessian.fit.history import load_history, save_history
from lightning_hessian.records import Report
from lightning_hessian.show import Figures, Gallery, ReportWriter, scalars, table

R = TypeVar("R", bound=Report)


class Recorder(Generic[R]):
    """Keeps the reports of one callback, writes them, and carries them through checkpoints.

    ``draw`` names the figures that go with the latest report, given all of them; ``settings`` are
    all options that a report depends on, in words. With ``monitor`` other callbacks
    and schedulers get the numbers to watch.
    """

    def __init__(
        self,
        kind: type[R],
        *,
        name: str,
        custom_scalars: bool,
        draw: Callable[[Sequence[R]], Figures],
        settings: str,
        monitor: bool = False,
    ) -> None:
        self.kind = kind
        self.name = name
        self.reports: list[R] = []
        self._gallery = Gallery(draw)
        self._settings = settings
        self._monitor = monitor
        self._writer = ReportWriter(prefix=name, custom_scalars=custom_scalars)
        self._checkpoints: CheckpointReports | None = None

    def table(self, reports: Sequence[R]) -> str:
        """Reports as a table for the terminal, a line for each."""
        return table(self.kind, reports)

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
                        f"{self.name}/{tag}": torch.tensor(value, dtype=torch.float64)
                        for tag, value in scalars(report).items()
                    }
                )

    @rank_zero_only
    def publish(self, trainer: Trainer, *, draws_all: bool) -> None:
        """Write the latest report and what is new in pictures, on the first process only."""
        report = self.reports[-1]
        self._writer.write(trainer.loggers, report)
        if trainer.loggers and report.failure is None:
            images = self._gallery.next(self.reports, draws_all=draws_all)
            self._writer.write_images(trainer.loggers, report.global_step, images)

    @rank_zero_only
    def publish_rest(self, trainer: Trainer) -> None:
        """Write the pictures of the latest report that were left out, as no other comes."""
        images = self._gallery.last()
        if images:
            latest = next(report for report in reversed(self.reports) if report.failure is None)
            self._writer.write_images(trainer.loggers, latest.global_step, images)

    def state(self, measured_at: Fingerprint | None) -> dict[str, Any]:
        """The history in primitives, as it travels in a checkpoint."""
        return save_history(self.reports, measured_at, self._settings)

    def load(self, state: Mapping[str, Any]) -> Fingerprint | None:
        """Take a history from a checkpoint; gives what was measured last, by the same options."""
        self.reports, measured_at = load_history(state, self.kind, self._settings)
        return measured_at

    def watch_checkpoints(self, checkpoints: CheckpointReports | None) -> None:
        """Let the files beside the checkpoints of a fit follow these; None when it is over."""
        if self._checkpoints is not None:
            self._checkpoints.end()
        self._checkpoints = checkpoints

    def settle_files(self) -> None:
        """Follow what was deleted and linked since."""
        if self._checkpoints is not None:
            self._checkpoints.settle()
