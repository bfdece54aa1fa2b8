"""The charts of a Custom Scalars page, as a report declares them."""

from __future__ import annotations

from typing import Any

from lightning_hessian.records import Band
from lightning_hessian.show.leaves import NUMBER, Names, leaves_of

Charts = dict[str, list[Any]]
"""Title to kind and tags, as TensorBoard takes a chart."""


def charts(report: Any, *, prefix: str) -> Charts:
    """What the page shows: also what this report lacks, as later ones may have it.

    Args:
        report: With numbers.
        prefix: First part of each tag.

    Returns:
        Title to chart.
    """
    found: Charts = {}
    for leaf in leaves_of(report):
        chart = leaf.chart
        if chart is None:
            continue
        title = chart.title.format_map(Names(leaf.holder, None))
        tag = f"{prefix}/{leaf.tags[0]}"
        if isinstance(chart, Band):
            curve = tag.removesuffix("_lower")  # also of an interval that stands by itself
            found[title] = ["Margin", [curve, f"{curve}_lower", f"{curve}_upper"]]
        else:
            lines = found.setdefault(title, ["Multiline", []])
            lines[1].append(tag.replace(NUMBER, r"\d+") + "$")
    return found
