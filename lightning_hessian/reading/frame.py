"""Reports as one pandas frame."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from lightning_hessian.analysis import Paths
from lightning_hessian.reading.run_reports import RunReports, as_runs
from lightning_hessian.reading.sources import read_reports
from lightning_hessian.records import Report
from lightning_hessian.show import tagged

if TYPE_CHECKING:
    import pandas

Reports = Iterable[RunReports] | Iterable[Report]


def reports_frame(reports: Paths | Reports) -> pandas.DataFrame:
    """All reports of a run, or of a folder of runs, as one table.

    The columns are ``run``, ``epoch``, ``global_step``, ``weights``, ``ckpt_path``, and each scalar
    under its tag in TensorBoard, such as ``hessian/eig_1``; what a report does not hold is ``nan``.
    Reports in memory stand under the usual names of their callbacks. Needs pandas.

    Args:
        reports: Paths, as of :func:`read_reports`; what it gives; or ``callback.reports``.

    Returns:
        A row for each report, by run, callback and step.

    Raises:
        ModuleNotFoundError: If pandas is not installed.
        ValueError: If there is no report at the paths.
    """
    kind = _pandas().DataFrame
    rows = [
        {
            "run": each.run,
            "epoch": report.epoch,
            "global_step": report.global_step,
            "weights": report.weights,
            "ckpt_path": report.ckpt_path,
            **tagged(report, prefix=each.name),
        }
        for each in runs_of(reports)
        for report in each.reports
    ]
    return kind(
        rows, columns=None if rows else ["run", "epoch", "global_step", "weights", "ckpt_path"]
    )


def runs_of(reports: Paths | Reports) -> list[RunReports]:
    """Reports from wherever they are.

    Args:
        reports: Paths, runs or reports.

    Returns:
        By run and callback.
    """
    given: list[Any] = [reports] if isinstance(reports, str | os.PathLike) else list(reports)
    if any(isinstance(each, str | os.PathLike) for each in given):
        return read_reports(given)
    return as_runs(given)


def _pandas() -> Any:
    try:
        return importlib.import_module("pandas")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "`reports_frame` needs pandas, which is not installed. Run `pip install pandas`, or "
            "take the reports themselves from `read_reports`."
        ) from error
