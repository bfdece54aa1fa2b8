"""What becomes of reports: the history of a callback, its loggers, the files beside checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Generic, TypeVar

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_only

from lightning_hessian.fit.checkpoints import CheckpointReports
from lightning_hessian.fit.fingerprint import Fingerprint
from lightning_hessian.fit.history import load_history, save_history
from lightning_hessian.records import Note, Report
from lightning_hessian.show import Figures, Gallery, ReportWriter, table

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
    all options that a report depends on, in words.
    """

    def __init__(
        self,
        kind: type[R],
        *,
        name: str,
        custom_scalars: bool,
        draw: Callable[[Sequence[R]], Figures],
        settings: str,
    ) -> None:
        self.kind = kind
        self.name = name
        self.reports: list[R] = []
        self._gallery = Gallery(draw)
        self._settings = settings
        self._writer = ReportWriter(prefix=name, custom_scalars=custom_scalars)
        self._checkpoints: CheckpointReports | None = None
        self._told: set[str] = set()
        self._goes_on_otherwise = False

    def begin_fit(self) -> None:
        """Every kind of note is news again."""
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

    @rank_zero_only
    def publish(self, trainer: Trainer, *, draws_all: bool) -> None:
        """Write the latest report and what is new in pictures, on the first process only."""
        report = self.reports[-1]
        self._writer.write(trainer.loggers, report)
        if trainer.loggers and report.failure is None:
            images = self._gallery.next(self.reports, draws_all=draws_all)
            self._writer.write_images(trainer.loggers, report.step, images)

    @rank_zero_only
    def publish_rest(self, trainer: Trainer) -> None:
        """Write the pictures of the latest report that were left out, as no other comes."""
        images = self._gallery.last()
        if images:
            latest = next(report for report in reversed(self.reports) if report.failure is None)
            self._writer.write_images(trainer.loggers, latest.step, images)

    def state(self, measured_at: Fingerprint | None) -> dict[str, Any]:
        """The history in primitives, as it travels in a checkpoint."""
        return save_history(self.reports, measured_at, self._settings)

    def load(self, state: Mapping[str, Any]) -> Fingerprint | None:
        """Take a history from a checkpoint; gives what was measured last, by the same options."""
        self.reports, measured_at = load_history(state, self.kind, self._settings)
        self._goes_on_otherwise = bool(self.reports) and state["settings"] != self._settings
        return measured_at

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
