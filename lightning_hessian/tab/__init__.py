"""The Hessian tab of TensorBoard: its data in event files, and the page that draws them.

Imported by every TensorBoard of an environment that has this package, so neither torch nor
Lightning is.
"""

from __future__ import annotations

from lightning_hessian.tab.entries import (
    FORMAT,
    MOST_ENTRIES,
    MOST_LOSSES,
    PLUGIN_NAME,
    list_series,
    read_entries,
    read_losses,
)
from lightning_hessian.tab.page import is_page, page_html

__all__ = [
    "FORMAT",
    "MOST_ENTRIES",
    "MOST_LOSSES",
    "PLUGIN_NAME",
    "is_page",
    "list_series",
    "page_html",
    "read_entries",
    "read_losses",
]
