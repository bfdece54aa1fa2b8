"""The numbers of a report as named scalars, for loggers of every kind."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, Literal

from lightning_hessian.show.charts import charted_ends
from lightning_hessian.show.leaves import Leaf, grouped, leaves_of, numbers

Amount = Literal["few", "all"]
"""``few``: what one looks at, with the intervals that are charted. ``all``: every number."""


def scalars(report: Any) -> dict[str, float]:
    """Name the numbers of a report as its fields declare; what was not measured is left out.

    Args:
        report: To be logged.

    Returns:
        Tag, without prefix and group, to finite value; for a failed measurement only ``failed``
        (1) and what it took.
    """
    return {tag: value for _, tag, value in _finite(leaves_of(report))}


def tagged(report: Any, *, prefix: str, amount: Amount = "all") -> dict[str, float]:
    """The same under the tags that they are logged by.

    Args:
        report: To be logged.
        prefix: First part of each tag: the callback's name.
        amount: How many of them.

    Returns:
        Tag, such as ``hessian/eig_1`` and ``hessian_errors/eig_1_bound``, to finite value.
    """
    leaves = list(leaves_of(report))
    chosen = leaves if amount == "all" else few(leaves)
    return {grouped(prefix, leaf.group, tag): value for leaf, tag, value in _finite(chosen)}


def few(leaves: Iterable[Leaf]) -> list[Leaf]:
    """Those that a person wants to see: values, what a chart needs, what declares itself."""
    leaves = list(leaves)
    ends = charted_ends(leaves)
    return [
        leaf
        for leaf in leaves
        if leaf.group in ("", "layers") or leaf.shown.few or ends.issuperset(leaf.tags)
    ]


def _finite(leaves: Iterable[Leaf]) -> Iterator[tuple[Leaf, str, float]]:
    for leaf in leaves:
        if leaf.shown.kind == "scalars":
            for tag, value in numbers(leaf):
                if math.isfinite(value):
                    yield leaf, tag, value
