"""From a record to a matplotlib figure; nothing is computed here that a test would like to see."""

from lightning_hessian.panels.history import history_figure
from lightning_hessian.panels.loss_difference import loss_difference_figure
from lightning_hessian.panels.loss_difference_history import loss_difference_history_figure
from lightning_hessian.panels.neighbourhood import neighbourhood_figure
from lightning_hessian.panels.spectrum import spectrum_figure
from lightning_hessian.panels.style import rasterize
from lightning_hessian.panels.surface import surface_figure

__all__ = [
    "history_figure",
    "loss_difference_figure",
    "loss_difference_history_figure",
    "neighbourhood_figure",
    "rasterize",
    "spectrum_figure",
    "surface_figure",
]
