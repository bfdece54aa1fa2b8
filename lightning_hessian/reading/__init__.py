"""Reports of runs that are over: from their files to one table and one figure."""

from lightning_hessian.reading.compared import spectra_figure
from lightning_hessian.reading.frame import reports_frame
from lightning_hessian.reading.run_reports import RunReports
from lightning_hessian.reading.sources import read_reports

__all__ = [
    "RunReports",
    "read_reports",
    "reports_frame",
    "spectra_figure",
]
