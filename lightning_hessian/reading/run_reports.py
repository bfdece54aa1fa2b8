"""The reports of one callback in one run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lightning_hessian.records import (
    CriticalPointReport,
    LossDifferenceReport,
    Report,
    SpectrumReport,
)

KINDS: dict[str, type[Report]] = {
    "HessianSpectrum": SpectrumReport,
    "LossDifference": LossDifferenceReport,
    "CriticalPoint": CriticalPointReport,
}
"""Callbacks, by their class, to what they report."""
USUAL_NAMES: dict[type[Report], str] = {
    SpectrumReport: "hessian",
    LossDifferenceReport: "loss_difference",
    CriticalPointReport: "critical_point",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReports:
    """The reports of one callback in one run, by step.

    Attributes:
        run: Folder of the run, from the folder that all runs have in common; of reports in memory
            empty.
        name: Of the callback: the first part of its tags.
        reports: Of one kind.
    """

    run: str = ""
    name: str
    reports: tuple[Report, ...]


def as_runs(reports: Iterable[RunReports | Report]) -> list[RunReports]:
    """Bring reports in memory under the usual names of their callbacks.

    Args:
        reports: Of runs, or without one.

    Returns:
        Those of runs, and what else there is by its kind.
    """
    runs: list[RunReports] = []
    alone: dict[str, list[Report]] = {}
    for each in reports:
        if isinstance(each, RunReports):
            runs.append(each)
        else:
            alone.setdefault(USUAL_NAMES[type(each)], []).append(each)
    return runs + [RunReports(name=name, reports=tuple(found)) for name, found in alone.items()]


def in_order(reports: Iterable[Report]) -> Sequence[Report]:
    """By step, then by epoch.

    Args:
        reports: In any order.

    Returns:
        Equal ones in the order given.
    """
    return sorted(reports, key=lambda report: (report.global_step, report.epoch))
