"""What TensorBoard finds of loss differences in the event files, read back."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightning.pytorch.loggers import TensorBoardLogger

from lightning_hessian.show import ReportWriter, tagged
from tests.helpers.board import Board
from tests.helpers.events import Events
from tests.helpers.loss_difference_reports import (
    HELD_OUT,
    difference_report,
    failed_difference,
    neighbourhood_at,
)

FULL: dict[str, Any] = {
    "thresholds": (0.1, 1e-5),
    "held_out": HELD_OUT,
    "neighbourhood": (neighbourhood_at(0.1), neighbourhood_at(1e-5, dimensions=3)),
}


def written(directory: Path, *reports: Any, custom_scalars: bool = False, **images: Any) -> Events:
    logger = TensorBoardLogger(directory, name=None, version="run")
    writer = ReportWriter(prefix="difference", amount="all", custom_scalars=custom_scalars)
    for report in reports:
        writer.write([logger], report)
        writer.write_images([logger], report.global_step, images)
    # without closing: each report is flushed as it comes
    return Events(directory / "run")


def test_scalars_arrive_at_their_steps_with_their_values(tmp_path: Path) -> None:
    reports = [difference_report(step=step, loss=float(step), **FULL) for step in (3, 7)]
    points = written(tmp_path, *reports).scalars()
    first, second = (tagged(report, prefix="difference") for report in reports)
    assert points.keys() == first.keys()
    for tag, pairs in points.items():
        # TensorBoard keeps float32
        np.testing.assert_allclose(pairs, [(3, first[tag]), (7, second[tag])], rtol=1e-6)


def test_the_summary_is_a_text_of_the_sentences(tmp_path: Path) -> None:
    report = difference_report(step=3, **FULL)
    events = written(tmp_path, report, difference_report(step=4))
    first, second = events.texts("difference/summary")
    assert first == (3, f"{report.sentence(0.1)}\n\n{report.sentence(1e-5)}")
    assert second[1].startswith("with 6 samples one more sample moves the loss by ")


def test_images_arrive_by_their_names(tmp_path: Path) -> None:
    black, wide = np.zeros((4, 5, 3), dtype=np.uint8), np.zeros((4, 9, 3), dtype=np.uint8)
    events = written(tmp_path, difference_report(step=3), difference=black, surface=wide)
    assert events.tags["images"] == {"difference/difference", "difference/surface"}
    assert events.images("difference/surface") == [(3, (4, 9))]


def test_a_failure_is_a_text_and_a_point(tmp_path: Path) -> None:
    events = written(tmp_path, failed_difference(5), custom_scalars=True)
    assert events.texts("difference/failure") == [(5, "ValueError: no")]
    assert events.texts("difference/summary") == []
    assert events.scalars() == {
        "difference_errors/failed": [(5, 1.0)],
        "difference_cost/seconds": [(5, pytest.approx(0.1))],
        "difference_cost/num_skipped": [(5, 0.0)],
    }
    # which waits for numbers, as these say what it is to show
    assert Board.read(tmp_path).custom_scalars == {}


def test_every_chart_of_the_page_finds_its_tags(tmp_path: Path) -> None:
    reports = [failed_difference(), difference_report(**FULL), difference_report(step=1, **FULL)]
    tags = written(tmp_path, *reports, custom_scalars=True).tags["scalars"]
    charts = Board.read(tmp_path).custom_scalars["difference: loss difference"]
    margins = [chart["margin"]["series"][0] for chart in charts.values() if "margin" in chart]
    assert {series["value"] for series in margins} == {
        "difference/mean_abs_difference",
        "difference/required_samples_0.1",
        "difference/required_samples_1e-05",
    }
    assert {tag for series in margins for tag in series.values()} <= tags
    (lines,) = (chart["multiline"]["tag"] for chart in charts.values() if "multiline" in chart)
    found = {tag for tag in tags for pattern in lines if re.match(pattern, tag)}
    assert found == {"difference/loss", "difference/held_out_loss"}


def test_charts_are_of_what_was_asked_for(tmp_path: Path) -> None:
    written(tmp_path, difference_report(), custom_scalars=True)
    (charts,) = Board.read(tmp_path).custom_scalars.values()
    assert list(charts) == ["mean absolute difference, the last sample's"]
