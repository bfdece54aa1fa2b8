"""Ticks that are cheap to draw: few, without minor ones, and without mathematical typesetting."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullLocator,
    ScalarFormatter,
)

NUM_TICKS = 8
NUM_STEPS = {"x": 5, "y": 6}
"""Fewer along x, where labels stand side by side."""
STEPS = (1, 2, 2.5, 5, 10)
FEW_DECADES = 2
LONG = (1e-3, 1e4)
"""Below and above them, or at them, a power of ten is shorter as such."""
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def choose_ticks(axes: Axes) -> None:
    """Give both axes their ticks, for the scales and limits that they have.

    Args:
        axes: With everything drawn.
    """
    for axis in (axes.xaxis, axes.yaxis):
        if axis.get_scale() == "log":
            _choose_decades(axis)
        elif axis.get_scale() == "asinh":
            _choose_to_both_sides(axis)
        else:
            axis.set_major_locator(MaxNLocator(NUM_STEPS[axis.axis_name], steps=STEPS))
            # longer numbers would reach the axis' label or each other
            formatter = ScalarFormatter()
            formatter.set_powerlimits((-3, 5))
            axis.set_major_formatter(formatter)


def _choose_decades(axis: Axis) -> None:
    """Powers of ten, or 1, 2, 5 of each where they would be too few to read a value by."""
    low, high = axis.get_view_interval()
    is_short = high < low * 10**FEW_DECADES
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if is_short else (1,), numticks=NUM_TICKS))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(_plain if is_short else _power))


def _choose_to_both_sides(axis: Axis) -> None:
    """Zero, and from the linear part on 1, 2, 5 of each power of ten, or where these are many 1."""
    low, high = axis.get_view_interval()
    width = axis.get_transform().linear_width  # type: ignore[attr-defined]
    powers = range(math.floor(math.log10(width)), math.ceil(math.log10(max(-low, high))) + 1)
    for subs in ((1, 2, 5), (1,)):
        sizes = [sub * 10.0**power for power in powers for sub in subs]
        both = (0.0, *(sign * size for size in sizes if size > width for sign in (-1, 1)))
        ticks = [tick for tick in both if low <= tick <= high]
        if len(ticks) <= NUM_TICKS:
            break
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(_plain if len(subs) > 1 else _short))


def _plain(value: float, _position: int | None) -> str:
    return f"{value:g}"


def _short(value: float, position: int | None) -> str:
    """Zero and powers of ten of either sign, none longer than a few letters."""
    if value == 0 or LONG[0] < abs(value) < LONG[1]:
        return _plain(value, position)
    return f"{'-' if value < 0 else ''}{_power(abs(value), position)}"


def _power(value: float, _position: int | None) -> str:
    """Of ten: the glyphs of the font in the place of what matplotlib would parse a formula for."""
    return f"10{str(round(math.log10(value))).translate(SUPERSCRIPTS)}"
