"""A sample that grows until a measurement on it is good enough."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from lightning_hessian.records import Note, Report

R = TypeVar("R", bound=Report)


def measure_until_precise(
    measure: Callable[[], R],
    *,
    required: Callable[[R], int],
    may_grow: Callable[[float, float], bool],
    grow: Callable[[int], bool],
) -> R:
    """Measure, on more samples as long as it takes; notes say what became of the sample.

    ``required`` tells how many samples a report should have been on, ``may_grow`` whether a report
    of such a cost may be made again on so many times the samples; ``grow`` is False where there
    are no more.
    """
    numbers: list[str] = []
    notes: list[Note] = []
    while True:
        report = measure()
        numbers.append(f"{report.num_samples:,}")
        count = required(report)
        if count <= report.num_samples:
            break
        if not may_grow(report.cost, count / report.num_samples):
            text = f"`max_overhead` allows no {count:,} samples, which it would take."
            notes.append(Note("no-larger-sample", text))
            break
        if not grow(count):
            break
    if len(numbers) > 1:
        text = f"The sample was made larger: {', '.join(numbers)} samples."
        notes.append(Note("larger-sample", text))
    return replace(report, notes=(*report.notes, *notes))
