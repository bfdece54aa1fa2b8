"""What came of checkpoints: how many were measured, and where a search has ended."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lightning_hessian.records import Report, SearchReport

FEW_MODULES = 20
"""That are listed of a search."""


def summary(reports: Sequence[Report]) -> str:
    """Tell a sweep's outcome.

    Args:
        reports: One for each checkpoint.

    Returns:
        A line, and one for each checkpoint without numbers, with the reason.
    """
    without = [report for report in reports if report.failure is not None]
    count = f"{len(reports) - len(without)} of {len(reports)} checkpoints measured"
    if not without:
        return f"{count}."
    lines = [f"  {report.ckpt_path}: {report.failure}" for report in without]
    return "\n".join([f"{count}, {len(without)} without numbers:", *lines])


def search_summary(report: SearchReport, path: str | None) -> str:
    """How a search ended, how far each module's weights were moved, and where the point is kept.

    Args:
        report: Of the search.
        path: Of the point; None where it is in no file.

    Returns:
        Lines for the terminal.
    """
    moves = sorted(report.moves, key=lambda move: -move.distance)
    listed, rest = moves[:FEW_MODULES], moves[FEW_MODULES:]
    width = max(len(name) for name in ("module", *(move.name for move in listed)))
    lines = [report.verdict, "", f"{'module':<{width}}      moved  |w| before      after"]
    lines += [
        f"{move.name:<{width}} {move.distance:10.4g} {move.norm:11.4g} {move.norm_found:10.4g}"
        for move in listed
    ]
    if rest:
        moved = math.hypot(*(move.distance for move in rest))
        lines.append(f"and {len(rest)} more, which moved by {moved:.4g} together")
    if path is not None:
        lines += ["", f"The point is kept in {path}: give that as checkpoint to go on."]
    return "\n".join(lines)
