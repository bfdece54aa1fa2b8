"""A sample that grows until a measurement on it is good enough."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any


def measure_until_precise(
    measure: Callable[[], Any],
    *,
    wanted: Callable[[Any], int],
    may_grow: Callable[[float], bool],
    grow: Callable[[int], bool],
) -> Any:
    """Measure, on more samples as long as it takes.

    Args:
        measure: Gives a report on the samples that there are; None if it is not admitted.
        wanted: How many samples a report should have been on.
        may_grow: Whether a report on so many times the samples may be made.
        grow: Takes so many samples from now on; False where there are no more.

    Returns:
        The last report, with notes on what became of the sample; or None.
    """
    numbers, notes = [], []
    while True:
        report = measure()
        if report is None:
            return None
        numbers.append(f"{report.num_samples:,}")
        count = wanted(report)
        if count <= report.num_samples:
            break
        if not may_grow(count / report.num_samples):
            notes.append(f"`max_overhead` allows no {count:,} samples, which it would take.")
            break
        if not grow(count):
            break
    if len(numbers) > 1:
        notes.append(f"The sample was made larger: {', '.join(numbers)} samples.")
    return dataclasses.replace(report, notes=(*report.notes, *notes))
