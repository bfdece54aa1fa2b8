"""From a record to what a person sees: figures, scalars, tables, TensorBoard, files."""

from lightning_hessian.show.figures.history import history_figure
from lightning_hessian.show.figures.loss_difference import loss_difference_figure
from lightning_hessian.show.figures.loss_difference_history import loss_difference_history_figure
from lightning_hessian.show.figures.neighbourhood import neighbourhood_figure
from lightning_hessian.show.figures.spectrum import spectrum_figure
from lightning_hessian.show.figures.style import rasterize
from lightning_hessian.show.figures.surface import surface_figure
from lightning_hessian.show.loss_difference_writer import LossDifferenceWriter
from lightning_hessian.show.sidecar import read_sidecar, sidecar_ending, sidecar_path, write_sidecar
from lightning_hessian.show.spectrum_writer import SpectrumWriter
from lightning_hessian.show.table import loss_difference_table, spectrum_table

__all__ = [
    "LossDifferenceWriter",
    "SpectrumWriter",
    "history_figure",
    "loss_difference_figure",
    "loss_difference_history_figure",
    "loss_difference_table",
    "neighbourhood_figure",
    "rasterize",
    "read_sidecar",
    "sidecar_ending",
    "sidecar_path",
    "spectrum_figure",
    "spectrum_table",
    "surface_figure",
    "write_sidecar",
]
