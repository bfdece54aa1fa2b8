"""The reports of a callback in order, those of the fit's earlier parts among them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Generic, TypeVar

from lightning.pytorch.utilities import rank_zero_warn

from lightning_hessian.fit.fingerprint import Fingerprint
from lightning_hessian.fit.history import History, LeftOut, load_history, save_history
from lightning_hessian.records import Note, Report

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


class ReportLog(Generic[R]):
    """Grows by a report at a time, and goes on where a checkpoint left it.

    Args:
        kind: Of the reports.
        name: Of the callback.
        settings: All options that a report depends on, in words.
    """

    def __init__(self, kind: type[R], *, name: str, settings: str) -> None:
        self.reports: list[R] = []
        self._kind = kind
        self._name = name
        self._settings = settings
        self._left_out = LeftOut()
        self._told: set[str] = set()
        self._goes_on_otherwise = False

    @property
    def made(self) -> list[R]:
        """Those with numbers."""
        return [report for report in self.reports if report.failure is None]

    @property
    def num_made(self) -> int:
        """Reports with numbers so far, those that travel no more included."""
        return self._left_out.count + len(self.made)

    @property
    def spent(self) -> float:
        """Sample gradients that these came to."""
        return self._left_out.cost + sum(report.cost for report in self.made)

    def begin_fit(self) -> None:
        """Every kind of note is news again."""
        self._told.clear()

    def add(self, report: R) -> None:
        """Take the next report; the first with numbers after a change of options says so."""
        if self._goes_on_otherwise and report.failure is None:
            self._goes_on_otherwise = False
            if made := self.made:
                report = replace(report, notes=(*report.notes, _otherwise(made[-1], report)))
        self.reports.append(report)

    def news(self) -> list[Note]:
        """Notes that qualify the latest report and have not been given in this fit."""
        # of each kind one, as texts hold numbers that change from report to report
        new = [note for note in self.reports[-1].qualifications if note.code not in self._told]
        self._told |= {note.code for note in new}
        return new

    def state(self, measured_at: Fingerprint | None, study: Mapping[str, Any]) -> dict[str, Any]:
        """As it travels in a checkpoint, with what the study remembers."""
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
            history = load_history(state, self._kind, self._settings)
            load_study(history.study)
        except Exception as error:
            rank_zero_warn(
                f"The history of Hessian reports in the checkpoint (`name={self._name!r}`) cannot "
                f"be read: {error} The history begins anew; the checkpoint is resumed as it is."
            )
            history = History()
            load_study(history.study)
        self.reports, self._left_out = history.reports, history.left_out
        self._goes_on_otherwise = bool(history.reports) and history.has_other_settings
        return history.measured_at
