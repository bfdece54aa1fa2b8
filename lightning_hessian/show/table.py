"""Reports as a table for the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from torch import Tensor

from lightning_hessian.records import Column, Declared, Report, declared
from lightning_hessian.show.leaves import Names

NOTHING = "-"
LARGE = 1e6
"""Errors from here on are written by their power of ten."""
QUALIFIED = "*"
SMALL = 1e-3
"""Values below it are written by their power of ten, where their error leaves them digits."""


def table(kind: type[Report], reports: Sequence[Report]) -> str:
    """One line a report, in the columns that its kind declares.

    ``+-`` is a standard error, of an eigenvalue a residual bound; the interval of a sample size is
    one of 95 %.

    Args:
        kind: Of the reports.
        reports: In the order of the lines.

    Returns:
        The table; notes and failures stand below their line, of notes of one kind the first, and
        the checkpoint, if one is known, at the end of it. A line with a number that a note
        qualifies ends in ``*``, and so begins the note.
    """
    columns = [(each, column) for each in declared(kind) for column in each.shown.columns]
    columns.sort(key=lambda pair: pair[1].place)
    headings = (f"{_heading(*pair, reports):>{pair[1].width}}" for pair in columns)
    lines = [" ".join(headings)]
    if any(report.ckpt_path for report in reports):
        lines[0] += "  checkpoint"
    told: set[str] = set()
    for report in reports:
        path = f"  {report.ckpt_path}" if report.ckpt_path else ""
        if report.failure is not None:
            # seconds are known of each attempt to measure; without one, neither is the step
            step = NOTHING if math.isnan(report.seconds) else str(report.step)
            lines += [f"{step:>6} no numbers{path}", f"{'':>6} {report.failure}"]
            continue
        cells = (f"{_cell(*pair, report):>{pair[1].width}}" for pair in columns)
        mark = f" {QUALIFIED}" if report.qualified else ""
        lines.append(" ".join(cells) + mark + path)
        news = [note for note in report.notes if note.code not in told]
        told |= {note.code for note in news}
        lines += [f"{QUALIFIED if n.qualifies else '':>6} note: {n}" for n in news]
    return "\n".join(lines)


def line(report: Report) -> str:
    """The numbers of one report as a line for a log: what its table's columns have, by heading.

    Args:
        report: With numbers.

    Returns:
        Such as ``step 60: loss 1.3208, trace 39.4 +- 4, HVPs 39, seconds 0.28``.
    """
    columns = [(each, column) for each in declared(type(report)) for column in each.shown.columns]
    columns.sort(key=lambda pair: pair[1].place)
    named = {_heading(*pair, [report]): _cell(*pair, report) for pair in columns}
    first, *others = [f"{name} {cell}" for name, cell in named.items() if cell != NOTHING]
    return f"{first}: {', '.join(others)}"


def _heading(each: Declared, column: Column, reports: Sequence[Report]) -> str:
    held = (_held(each, column, report) for report in reports if report.failure is None)
    first = next((value for value in held if value is not None), None)
    if not column.detail or first is None:
        return column.heading
    return column.heading + column.detail.format_map(Names(first, None))


def _cell(each: Declared, column: Column, report: Report) -> str:
    value = _held(each, column, report)
    if value is None:
        return NOTHING
    return column.cell.format(value) if column.cell else with_error(*_first_numbers(value))


def _held(each: Declared, column: Column, report: Report) -> Any:
    """What a column is about: of several records the first."""
    value = getattr(report, each.name)
    if isinstance(value, tuple):
        value = value[0] if value else None
    return attrgetter(column.of)(value) if column.of and value is not None else value


def _first_numbers(record: Any) -> tuple[float, float]:
    """The first number that a record declares, and its error."""
    fields = declared(type(record))
    value = next(each for each in fields if not each.shown.error_of)
    error = next(each for each in fields if each.shown.error_of == value.name)
    return _first(getattr(record, value.name)), _first(getattr(record, error.name))


def _first(value: float | Tensor) -> float:
    if isinstance(value, Tensor):
        return float(value[0]) if len(value) else math.nan
    return value


def with_error(value: float, error: float) -> str:
    """As many digits as the error leaves, at most six, counted from the first of a small value."""
    if math.isnan(value):
        return NOTHING
    if math.isnan(error):
        return f"{value:.6g}"
    digits = 6 if error <= 0 else max(0, 1 - math.floor(math.log10(error)))
    if digits > 6 and 0 < abs(value) < SMALL:
        digits = min(6, max(0, digits + math.floor(math.log10(abs(value)))))
        return f"{value:.{digits}e} +- {error:.1g}"
    digits = min(6, digits)
    return f"{value:.{digits}f} +- {_one_digit(error)}"


def _one_digit(error: float) -> str:
    """An error to its first digit; large ones without a power of ten, as the value beside them."""
    rounded = float(f"{error:.1g}")
    return f"{rounded:.0f}" if 1 <= rounded < LARGE else f"{rounded:g}"
