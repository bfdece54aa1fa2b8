"""The charts of a Custom Scalars page, as a report declares them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from lightning_hessian.records import Band
from lightning_hessian.show.leaves import NUMBER, Leaf, Names, grouped, leaves_of, numbers

Charts = dict[str, list[Any]]
"""Title to kind and tags, as TensorBoard takes a chart."""


def charts(report: Any, *, prefix: str) -> Charts:
    """What the page shows of a report.

    Args:
        report: With numbers.
        prefix: First part of each tag.

    Returns:
        Title to chart.
    """
    found: Charts = {}
    for leaf in leaves_of(report):
        chart = leaf.chart
        if chart is None or not any(math.isfinite(value) for _, value in numbers(leaf)):
            continue
        title = chart.title.format_map(Names(leaf.holder, None))
        if isinstance(chart, Band):
            curve = _curve(leaf)
            ends = [grouped(prefix, "errors", end) for end in _ends(curve)]
            found[title] = ["Margin", [grouped(prefix, "", curve), *ends]]
        else:
            lines = found.setdefault(title, ["Multiline", []])
            tag = grouped(prefix, leaf.group, leaf.tags[0])
            lines[1].append(tag.replace(NUMBER, r"\d+") + "$")
    # a curve by itself has a chart among the scalars
    return {title: chart for title, chart in found.items() if len(chart[1]) > 1}


def charted_ends(leaves: Iterable[Leaf]) -> set[str]:
    """The ends of intervals that a chart is drawn with, without the prefix."""
    return {end for leaf in leaves if isinstance(leaf.chart, Band) for end in _ends(_curve(leaf))}


def _curve(leaf: Leaf) -> str:
    """What lies between the ends, also of an interval that stands by itself."""
    return leaf.tags[0].removesuffix("_lower")


def _ends(curve: str) -> tuple[str, str]:
    return f"{curve}_lower", f"{curve}_upper"
