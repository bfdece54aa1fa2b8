"""One table of all reports: a row for each, a column for each scalar."""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.loggers import TensorBoardLogger

from lightning_hessian import read_reports, reports_frame
from lightning_hessian.show import tagged, write_sidecar
from tests.helpers.checkpoints import ByEpochAndStep, fitted
from tests.helpers.events import Events
from tests.helpers.loss_difference_reports import difference_report
from tests.helpers.reports import eigenvalues_at, failed_at, report_at
from tests.helpers.spectrum import spectrum

ROOT = Path(__file__).parents[2]
FIRST = ["run", "epoch", "global_step", "weights", "ckpt_path"]


def framed(reports: Any) -> Any:
    pytest.importorskip("pandas", reason="the frame is one of pandas, which is optional")
    return reports_frame(reports)


def test_the_frame_holds_the_points_of_tensorboard(tmp_path: Path) -> None:
    logger = TensorBoardLogger(str(tmp_path), name=None, version="version_0")
    ours = spectrum(every_n_train_steps=2, scalars="all", custom_scalars=False)
    fitted(tmp_path / "version_0" / "checkpoints", ByEpochAndStep(), ours, logger=logger)
    frame = framed(tmp_path)
    points = Events(tmp_path / "version_0").scalars("hessian")
    assert list(frame.columns[:5]) == FIRST
    assert set(frame.columns[5:]) == set(points)
    assert set(frame["run"]) == {"version_0"}
    for tag, found in points.items():
        # the last report is of a step after the last checkpoint, so in no file
        told = {step: value for step, value in found if step <= 6}
        column = frame.set_index("global_step")[tag].dropna()
        assert column.to_dict() == pytest.approx(told, rel=1e-6), tag


def test_rows_of_several_runs_and_callbacks_stand_in_one_frame(tmp_path: Path) -> None:
    for run, step in (("a", 3), ("b", 4)):
        (tmp_path / run).mkdir()
        write_sidecar(report_at(step, epoch=1), tmp_path / run / "x.ckpt", name="hessian")
    write_sidecar(failed_at(5), tmp_path / "b" / "y.ckpt", name="mine")
    frame = framed(tmp_path)
    assert frame[FIRST].values.tolist() == [
        ["a", 1, 3, "current", f"{tmp_path}/a/x.ckpt"],
        ["b", 1, 4, "current", f"{tmp_path}/b/x.ckpt"],
        ["b", 0, 5, "current", f"{tmp_path}/b/y.ckpt"],
    ]
    assert frame["hessian/eig_1"].tolist()[:2] == [4.0, 4.0]
    assert math.isnan(frame["hessian/eig_1"].tolist()[2])
    assert frame["mine_errors/failed"].tolist()[2] == 1


def test_reports_in_memory_and_those_that_were_read_give_the_same_columns(tmp_path: Path) -> None:
    reports = [report_at(3), difference_report()]
    frame = framed(reports)
    wanted = tagged(reports[0], prefix="hessian").keys()
    wanted |= tagged(reports[1], prefix="loss_difference").keys()
    assert set(frame.columns[5:]) == wanted
    write_sidecar(reports[0], tmp_path / "x.ckpt", name="hessian")
    read = framed(read_reports(tmp_path))
    assert read["hessian/trace"].tolist() == framed(reports[:1])["hessian/trace"].tolist() == [12.0]
    assert list(framed([]).columns) == FIRST


def test_the_page_about_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pandas", reason="the frame is one of pandas, which is optional")
    page = (ROOT / "docs" / "checkpoints.md").read_text(encoding="utf8")
    (shown,) = re.findall(r"```python\n([^`]*reports_frame\([^`]*)```", page)
    monkeypatch.chdir(tmp_path)
    for run, value in (("version_0", 4.0), ("version_1", 6.0)):
        folder = Path("lightning_logs") / run / "checkpoints"
        folder.mkdir(parents=True)
        for step, share in ((10, 0.5), (20, 1.0)):
            report = report_at(step, largest=eigenvalues_at([share * value], [0.1]))
            write_sidecar(report, folder / f"{step}.ckpt", name="hessian")
    names: dict[str, Any] = {}
    exec(shown, names)
    assert names["sharpest"].to_dict() == {"version_0": 4.0, "version_1": 6.0}
    assert Path("spectra.png").stat().st_size > 10_000


def test_without_pandas_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ModuleNotFoundError, match=r"`reports_frame` needs pandas.*pip install pan"):
        reports_frame([report_at(3)])
