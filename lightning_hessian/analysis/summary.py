"""What an analysis came to: how many checkpoints were measured, and why the others were not."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_hessian.records import Report


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
