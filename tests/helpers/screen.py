"""What stands on a terminal in the end, from all that was written to it."""

from __future__ import annotations

import re

PART = re.compile(r"\x1b\[\??(\d*)[;\d]*([a-zA-Z])|\r|\n|[^\x1b\r\n]+")


def screen(written: str, columns: int = 120) -> list[str]:
    """Its lines, with those that were scrolled off; long ones go on in the next.

    Knows of the codes what tqdm and Rich use: up, and to delete a line; colours are left out.
    """
    lines, row, column = [""], 0, 0
    for part in PART.finditer(written):
        count, code = int(part[1] or 1), part[2]
        if code == "A":
            row = max(row - count, 0)
        elif code == "K":
            lines[row] = ""
        elif part[0] == "\r":
            column = 0
        elif part[0] == "\n":
            row, column = row + 1, 0 if written[part.start() - 1] == "\r" else column
        elif code is None:
            for letter in part[0]:
                if column == columns:
                    row, column = row + 1, 0
                lines += [""] * (row + 1 - len(lines))
                lines[row] = f"{lines[row][:column]:<{column}}{letter}{lines[row][column + 1 :]}"
                column += 1
        lines += [""] * (row + 1 - len(lines))
    return [line.rstrip() for line in lines]
