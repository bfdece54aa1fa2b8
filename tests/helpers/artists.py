"""What a figure's artists hold, found by their labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox


def line(axes: Axes, label: str) -> tuple[Any, Any]:
    """Positions and values."""
    (found,) = [artist for artist in axes.lines if artist.get_label() == label]
    return np.asarray(found.get_xdata()), np.asarray(found.get_ydata())


def band(axes: Axes, label: str) -> tuple[Any, Any, Any]:
    """Positions, lower and upper ends."""
    (found,) = [artist for artist in axes.collections if artist.get_label() == label]
    corners = found.get_paths()[0].vertices
    x = np.unique(corners[:, 0])
    ends = [corners[corners[:, 0] == position][:, 1] for position in x]
    return x, np.array([y.min() for y in ends]), np.array([y.max() for y in ends])


def bars(axes: Axes, label: str) -> tuple[Any, Any, Any]:
    """Positions, values, and the segments of the error bars."""
    (found,) = [container for container in axes.containers if container.get_label() == label]
    data, _, (segments,) = found
    return (
        np.asarray(data.get_xdata(), dtype=float),
        np.asarray(data.get_ydata(), dtype=float),
        np.array(segments.get_segments()),
    )


def texts_with_places(figure: Figure) -> list[tuple[Axes | None, str, Bbox]]:
    """Whose each text that is seen is, what it says and where it stands, once drawn."""
    found: list[tuple[Axes | None, Text]] = [(None, text) for text in figure.texts]
    found += [(axes, text) for axes in figure.axes for text in _texts_of(axes)]
    return [
        (owner, text.get_text(), text.get_window_extent())
        for owner, text in found
        if text.get_visible() and text.get_text().strip()
    ]


def _texts_of(axes: Axes) -> list[Text]:
    texts = [axes.title, *axes.texts]
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        texts += [axis.label, axis.get_offset_text()]
        # others stand outside the axis and are not drawn; shared axes have no labels
        texts += [
            label
            for place, label in zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=False)
            if low <= place <= high
        ]
    legend = axes.get_legend()
    return texts if legend is None else [*texts, *legend.get_texts()]
