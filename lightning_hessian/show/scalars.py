"""The numbers of a report as named scalars, for loggers of every kind."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from lightning_hessian.show.leaves import NUMBER, Leaf, leaves_of


def scalars(report: Any) -> dict[str, float]:
    """Name the numbers of a report as its fields declare; what was not measured is left out.

    Args:
        report: To be logged.

    Returns:
        Tag, without the prefix, to finite value; for a failed measurement only ``failed`` (1) and
        what it took.
    """
    found: dict[str, float] = {}
    for leaf in leaves_of(report):
        if leaf.shown.kind == "scalars" and leaf.value is not None:
            found.update(numbers(leaf))
    return {tag: value for tag, value in found.items() if math.isfinite(value)}


def numbers(leaf: Leaf) -> Iterator[tuple[str, float]]:
    """The tags of a leaf with a value, each with its number."""
    if isinstance(leaf.value, Tensor):
        for place, number in enumerate(leaf.value.tolist(), start=1):
            yield leaf.tags[0].replace(NUMBER, str(place)), float(number)
    else:
        values = leaf.value if isinstance(leaf.value, tuple) else (leaf.value,)
        for tag, number in zip(leaf.tags, values, strict=True):
            yield tag, float(number)
