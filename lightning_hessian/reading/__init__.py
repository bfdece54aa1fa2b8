"""Reports of runs that are over: from their files to one table and one figure."""

from lightning_hessian.reading.compared import spectra_figure
from lightning_hessian.reading.frame import Reports, reports_frame
from lightning_hessian.reading.run_reports import RunReports, as_runs
from lightning_hessian.reading.sources import find_reports, read_reports

__all__ = [
    "Reports",
    "RunReports",
    "as_runs",
    "find_reports",
    "read_reports",
    "reports_frame",
    "spectra_figure",
]
