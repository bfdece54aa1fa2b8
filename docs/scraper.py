"""Saves the figure that a block of a tutorial ends with, as a notebook would show it."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure
from sphinx_gallery.scrapers import figure_rst


def last_figure(_block: Any, block_vars: dict[str, Any], gallery_conf: dict[str, Any]) -> str:
    """The package's figures are free of pyplot, so that pyplot's open figures do not have them.

    Args:
        _block: Of the program.
        block_vars: Its globals, with the value of its last expression.
        gallery_conf: Of the gallery.

    Returns:
        The image as reStructuredText; nothing for other values.
    """
    figure = block_vars["example_globals"].get("___")
    if not isinstance(figure, Figure):
        return ""
    path = next(block_vars["image_path_iterator"])
    figure.savefig(path, dpi=100)
    return str(figure_rst([path], gallery_conf["src_dir"]))
