"""The Hessian tab of TensorBoard: its data in event files, and the page that draws them.

Imported by every TensorBoard of an environment that has this package, so neither torch nor
Lightning is.
"""

from __future__ import annotations

from lightning_hessian.tab.entries import FORMAT, PLUGIN_NAME

__all__ = ["FORMAT", "PLUGIN_NAME"]
