"""What TensorBoard finds in the event files, read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from lightning_hessian.records import SpectrumReport
from lightning_hessian.show import ReportWriter, rasterize, spectrum_figure, tagged
from lightning_hessian.show.tensorboard import tensorboard_loggers
from tests.helpers.events import Events
from tests.helpers.media_loggers import Recording
from tests.helpers.reports import failed_at, report_at, trace_at


def _tags(report: SpectrumReport) -> dict[str, float]:
    return tagged(report, prefix="hessian")


def written(
    directory: Path, *reports: Any, custom_scalars: bool = False, figures: bool = False
) -> Events:
    logger = TensorBoardLogger(directory, name=None, version="run")
    writer = ReportWriter(prefix="hessian", amount="all", custom_scalars=custom_scalars)
    for report in reports:
        writer.write([logger], report)
        if figures and report.density is not None:
            image = rasterize(spectrum_figure(report))
            writer.write_images([logger], report.global_step, {"spectrum": image})
    # without closing: each report is flushed as it comes
    return Events(directory / "run")


def test_scalars_arrive_at_their_steps_with_their_values(tmp_path: Path) -> None:
    first, second = report_at(3), report_at(7, trace=trace_at(20.0))
    points = written(tmp_path, first, second).scalars()
    wanted = {
        tag: [(3, value), (7, later)]
        for (tag, value), later in zip(
            _tags(first).items(),
            _tags(second).values(),
            strict=True,
        )
    }
    assert points.keys() == wanted.keys()
    for tag, pairs in wanted.items():
        # TensorBoard keeps float32
        np.testing.assert_allclose(points[tag], pairs, rtol=1e-6)


def test_every_kind_of_record_has_exactly_its_tags(tmp_path: Path) -> None:
    tags = written(tmp_path, report_at(3), failed_at(5), figures=True).tags
    assert tags["histograms"] == set()
    assert tags["images"] == {"hessian/spectrum"}
    assert tags["tensors"] == {"hessian/failure/text_summary", "hessian/report"}
    assert len(tags["scalars"]) == 26


def test_the_image_arrives_whole(tmp_path: Path) -> None:
    events = written(tmp_path, report_at(3), report_at(4), figures=True)
    assert events.images("hessian/spectrum") == [(3, (540, 960)), (4, (540, 960))]


def test_a_failure_is_a_text_and_a_point(tmp_path: Path) -> None:
    events = written(tmp_path, failed_at(5))
    assert events.texts("hessian/failure") == [(5, "ValueError: no")]
    assert events.scalars().keys() == {
        "hessian_errors/failed",
        "hessian_cost/seconds",
        "hessian_cost/num_skipped",
    }
    assert events.scalars()["hessian_errors/failed"] == [(5, 1.0)]
    assert events.tags["images"] == set()


def test_other_loggers_get_the_scalars_only(tmp_path: Path) -> None:
    logger = Recording(experiment=object())
    csv = CSVLogger(tmp_path)
    report = report_at(3)
    ReportWriter(prefix="hessian", amount="all", custom_scalars=True).write([logger, csv], report)
    assert logger.rows == [(_tags(report), 3)]
    assert list(tensorboard_loggers([logger, csv])) == []


def test_only_the_first_process_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    logger = TensorBoardLogger(tmp_path, name=None, version="run")
    ReportWriter(prefix="hessian", amount="all", custom_scalars=True).write([logger], report_at())
    assert not (tmp_path / "run").exists()


class Broken(CSVLogger):
    """A logger of the user's that fails."""

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        raise OSError("no such server")


def test_a_logger_that_fails_leaves_the_others_their_report(tmp_path: Path) -> None:
    board = TensorBoardLogger(tmp_path, name=None, version="run")
    writer = ReportWriter(prefix="hessian", amount="few", custom_scalars=False)
    with pytest.raises(OSError, match="no such server"):
        writer.write([Broken(tmp_path / "rows"), board], report_at(3))
    board.experiment.close()
    (written,) = Path(board.log_dir).glob("events.*")
    assert b"hessian/report" in written.read_bytes()
