"""What becomes of reports: the history of a callback, its loggers, the files beside checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Generic, TypeVar

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn

from lightning_hessian.fit.checkpoints import CheckpointReports
from lightning_hessian.fit.fingerprint import Fingerprint
from lightning_hessian.fit.history import History, LeftOut, load_history, save_history
from lightning_hessian.fit.room import Room
from lightning_hessian.records import Note, Report
from lightning_hessian.show import Figures, Gallery, Images, ReportWriter, scalars, table

R = TypeVar("R", bound=Report)


def _otherwise(before: Report, after: Report) -> Note:
    """What to say where a history goes on with other options."""
    counts = [
        f"{getattr(after, field):,} {name} instead of {getattr(before, field):,}"
        for field, name in (("num_parameters", "parameters"), ("num_samples", "samples"))
        if getattr(after, field) != getattr(before, field)
    ]
    of = f" ({', '.join(counts)})" if counts else ""
    return Note(
        "options-changed",
        "The fit was resumed with other options than those of the reports before it"
        f"{of}: from here on the curves go on with another quantity.",
    )


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
        self._left_out = LeftOut()
        self._gallery = Gallery(draw)
        self._settings = settings
        self._monitor = monitor
        self._writer = ReportWriter(prefix=name, custom_scalars=custom_scalars)
        self._checkpoints: CheckpointReports | None = None
        self.room = Room()
        self._told: set[str] = set()
        self._goes_on_otherwise = False

    def begin_fit(self, trainer: Trainer) -> None:
        """Every kind of note is news again, and there may be room on the disk."""
        self.room.begin(trainer)
        self._told.clear()

    def news(self) -> list[Note]:
        """Notes that qualify the latest report and have not been given in this fit."""
        # of each kind one, as texts hold numbers that change from report to report
        new = [note for note in self.reports[-1].qualifications if note.code not in self._told]
        self._told |= {note.code for note in new}
        return new

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
        self._log(trainer, partial(self._writer.write, trainer.loggers, report))
        if report.failure is None:
            draw = partial(self._gallery.next, self.reports, draws_all=draws_all)
            self._log(trainer, partial(self._log_images, trainer, report, draw))

    @rank_zero_only
    def publish_rest(self, trainer: Trainer) -> None:
        """Write the pictures of the latest report that were left out, as no other comes."""
        made = self._made()
        if made:
            self._log(trainer, partial(self._log_images, trainer, made[-1], self._gallery.last))

    def _log(self, trainer: Trainer, write: Callable[[], None]) -> None:
        if trainer.loggers:
            self.room.write(write, [logger.save_dir for logger in trainer.loggers])

    def _log_images(self, trainer: Trainer, report: R, draw: Callable[[], Images]) -> None:
        images = draw()
        if images:
            self._writer.write_images(trainer.loggers, report.step, images)

    @property
    def num_made(self) -> int:
        """Reports with numbers so far, those that travel no more included."""
        return self._left_out.count + len(self._made())

    @property
    def spent(self) -> float:
        """Sample gradients that these came to."""
        return self._left_out.cost + sum(report.cost for report in self._made())

    def state(self, measured_at: Fingerprint | None, study: Mapping[str, Any]) -> dict[str, Any]:
        """The history as it travels in a checkpoint, with what the study remembers.

        The latter may be as large as the weights, and stays where there is little room.
        """
        if not self.room.admits_history():
            return {}
        study = {} if self.room.is_short else study
        history = History(
            reports=self.reports, left_out=self._left_out, measured_at=measured_at, study=study
        )
        return save_history(history, self._settings)

    def load(
        self, state: Any, load_study: Callable[[Mapping[str, Any]], None]
    ) -> Fingerprint | None:
        """Take a history from a checkpoint; gives what was measured last, by the same options.

        What is wrong with it, whatever it is, begins it anew with a warning: a checkpoint can be
        resumed in any case.
        """
        try:
            history = load_history(state, self.kind, self._settings)
            load_study(history.study)
        except Exception as error:
            rank_zero_warn(
                f"The history of Hessian reports in the checkpoint (`name={self.name!r}`) cannot "
                f"be read: {error} The history begins anew; the checkpoint is resumed as it is."
            )
            history = History()
            load_study(history.study)
        self.reports, self._left_out = history.reports, history.left_out
        self._goes_on_otherwise = bool(history.reports) and history.has_other_settings
        return history.measured_at

    def _made(self) -> list[R]:
        return [report for report in self.reports if report.failure is None]

    def add(self, report: R) -> None:
        """Take the next report; the first with numbers after a change of options says so."""
        if self._goes_on_otherwise and report.failure is None:
            self._goes_on_otherwise = False
            earlier = [each for each in self.reports if each.failure is None]
            if earlier:
                report = replace(report, notes=(*report.notes, _otherwise(earlier[-1], report)))
        self.reports.append(report)

    def watch_checkpoints(self, checkpoints: CheckpointReports | None) -> None:
        """Let the files beside the checkpoints of a fit follow these; None when it is over."""
        if self._checkpoints is not None:
            self._checkpoints.end()
        self._checkpoints = checkpoints

    def settle_files(self) -> None:
        """Follow what was deleted and linked since."""
        if self._checkpoints is not None:
            self._checkpoints.settle()
