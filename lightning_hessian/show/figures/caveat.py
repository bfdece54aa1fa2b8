"""What the numbers of a figure are not to be read without."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_hessian.records import Report


def caveat(reports: Sequence[Report]) -> str:
    """The names of the notes that qualify some number, each once.

    Args:
        reports: That a figure draws.

    Returns:
        One line; empty where there is none. What the notes say stands in the report.
    """
    names = dict.fromkeys(note.name for report in reports for note in report.qualifications)
    return f"Read with the notes: {'; '.join(names)}" if names else ""
