"""From a record to a matplotlib figure; nothing is computed here that a test would like to see."""

from lightning_hessian.panels.history import history_figure
from lightning_hessian.panels.spectrum import spectrum_figure
from lightning_hessian.panels.style import rasterize

__all__ = ["history_figure", "rasterize", "spectrum_figure"]
