"""Where panels and titles stand, in inches: to let matplotlib look costs more than to draw."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

LETTERS_PER_INCH = 117
"""Of a text of size 1; of size 9 thirteen."""
LINE = 1.2 / 72
"""Height of a line of size 1."""
EDGE = 0.08
"""Between the title and the upper edge."""
ABOVE_POWER = 14
"""Points between a panel and its title that leave a line for the power of ten of its ticks."""
CAVEAT_SIZE, CAVEAT_COLOUR = 8.5, "#c00000"
CAVEAT_LINES = 2
X_LABEL, Y_LABEL = 0.28, 0.6
"""From an axis to its label, past what the longest tick label needs."""


@dataclass(frozen=True)
class Frame:
    """Sizes of panels, and the room around and between them, in inches."""

    widths: Sequence[float]
    height: float
    left: float = 0.8
    right: float = 0.2
    bottom: float = 0.52
    top: float = 0.3
    beside: float = 0.75
    below: float = 0.9

    @property
    def width(self) -> float:
        """Of the whole figure."""
        return self.left + sum(self.widths) + self.beside * (len(self.widths) - 1) + self.right


def place(
    figure: Figure,
    panels: Sequence[Axes],
    frame: Frame,
    title: str,
    size: float,
    caveat: str = "",
) -> float:
    """Give a figure its title, its panels their places, row by row, and their labels theirs.

    The panels keep their size, the figure grows with its title and what stands below.

    Args:
        figure: Without a layout of matplotlib's.
        panels: As many as fill the rows; the last row may have fewer.
        frame: The sizes.
        title: Of the figure; long ones become several lines.
        size: Of the title's font.
        caveat: What the numbers are not to be read without; cut after two lines.

    Returns:
        The height of the caveat.
    """
    title = wrapped(title, frame.width, size)
    below = _write_below(figure, frame.width, caveat)
    columns = len(frame.widths)
    rows = -(-len(panels) // columns)
    inner = rows * frame.height + (rows - 1) * frame.below
    height = below + frame.bottom + inner + frame.top + lines_height(title, size) + EDGE
    figure.set_size_inches(frame.width, height)
    figure.suptitle(title, fontsize=size, y=1 - EDGE / height)
    for index, axes in enumerate(panels):
        row, column = divmod(index, columns)
        width = frame.widths[column]
        x = frame.left + sum(frame.widths[:column]) + column * frame.beside
        y = below + frame.bottom + inner - frame.height - row * (frame.height + frame.below)
        corner = (x / frame.width, y / height)
        axes.set_position((*corner, width / frame.width, frame.height / height))
        axes.xaxis.set_label_coords(0.5, -X_LABEL / frame.height)
        axes.yaxis.set_label_coords(-Y_LABEL / width, 0.5)
    return below


def _write_below(figure: Figure, width: float, text: str) -> float:
    """Write at a figure's lower edge; gives the height that this takes."""
    if not text:
        return 0.0
    letters = int(LETTERS_PER_INCH / CAVEAT_SIZE * (width - 2 * EDGE))
    lines = textwrap.wrap(text, letters, max_lines=CAVEAT_LINES, placeholder=" ...")
    figure.text(
        EDGE / width,
        0,
        "\n".join(lines),
        fontsize=CAVEAT_SIZE,
        color=CAVEAT_COLOUR,
        verticalalignment="bottom",
    )
    return len(lines) * CAVEAT_SIZE * LINE + EDGE


def set_title(axes: Axes, title: str, **style: Any) -> None:
    """Give a panel its title, at a fixed place: matplotlib would measure every text for one.

    Args:
        axes: The panel.
        title: Its title.
        style: Of the text.
    """
    axes.set_title(title, y=1.0, **({"fontsize": 9.5} | style))


def wrapped(text: str, inches: float, size: float) -> str:
    """A text in lines that fit.

    Args:
        text: With line breaks, which stay.
        inches: The width of a line.
        size: Of the font.

    Returns:
        The same with more line breaks.
    """
    letters = int(LETTERS_PER_INCH / size * inches)
    return "\n".join(
        textwrap.fill(line, letters, break_on_hyphens=False) for line in text.splitlines()
    )


def lines_height(text: str, size: float) -> float:
    """How high a text stands.

    Args:
        text: With its line breaks.
        size: Of the font.

    Returns:
        Inches.
    """
    return (text.count("\n") + 1) * size * LINE
