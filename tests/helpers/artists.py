"""What a figure's artists hold, found by their labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes


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
