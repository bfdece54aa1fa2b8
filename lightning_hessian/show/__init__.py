"""From a record to what a person sees: figures, scalars, tables, TensorBoard, files."""

from matplotlib.figure import Figure as Figure

from lightning_hessian.show.charts import charts
from lightning_hessian.show.figures.critical_point import (
    critical_point_history_figure,
    escape_figure,
)
from lightning_hessian.show.figures.history import history_figure
from lightning_hessian.show.figures.loss_difference import loss_difference_figure
from lightning_hessian.show.figures.loss_difference_history import loss_difference_history_figure
from lightning_hessian.show.figures.neighbourhood import neighbourhood_figure
from lightning_hessian.show.figures.overlay import overlay_figure
from lightning_hessian.show.figures.random_matrices import random_matrix_figure
from lightning_hessian.show.figures.spectrum import spectrum_figure
from lightning_hessian.show.figures.spin_glass import spin_glass_figure, spin_glass_fit_figure
from lightning_hessian.show.figures.style import rasterize
from lightning_hessian.show.figures.surface import surface_figure
from lightning_hessian.show.gallery import Gallery, Images
from lightning_hessian.show.media import PictureWriter, give_page
from lightning_hessian.show.report_figures import (
    Figures,
    critical_point_figures,
    loss_difference_figures,
    spectrum_figures,
)
from lightning_hessian.show.report_writer import ReportWriter
from lightning_hessian.show.scalars import Amount, scalars, tagged
from lightning_hessian.show.sidecar import (
    as_json,
    read_sidecar,
    sidecar_ending,
    sidecar_path,
    write_sidecar,
)
from lightning_hessian.show.tab_entry import tab_run
from lightning_hessian.show.table import line, table
from lightning_hessian.show.tag_table import TagRow, tag_rows, tag_table

__all__ = [
    "Amount",
    "Figures",
    "Gallery",
    "Images",
    "PictureWriter",
    "ReportWriter",
    "TagRow",
    "as_json",
    "charts",
    "critical_point_figures",
    "critical_point_history_figure",
    "escape_figure",
    "give_page",
    "history_figure",
    "line",
    "loss_difference_figure",
    "loss_difference_figures",
    "loss_difference_history_figure",
    "neighbourhood_figure",
    "overlay_figure",
    "random_matrix_figure",
    "rasterize",
    "read_sidecar",
    "scalars",
    "sidecar_ending",
    "sidecar_path",
    "spectrum_figure",
    "spectrum_figures",
    "spin_glass_figure",
    "spin_glass_fit_figure",
    "surface_figure",
    "tab_run",
    "table",
    "tag_rows",
    "tag_table",
    "tagged",
    "write_sidecar",
]
