"""What TensorBoard finds of loss differences in the event files, read back."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightning.pytorch.loggers import TensorBoardLogger

from lightning_hessian.show import ReportWriter, scalars
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
    writer = ReportWriter(prefix="difference", custom_scalars=custom_scalars)
    for report in reports:
        writer.write([logger], report)
        writer.write_images([logger], report.global_step, images)
    # without closing: each report is flushed as it comes
    return Events(directory / "run")


def test_scalars_arrive_at_their_steps_with_their_values(tmp_path: Path) -> None:
    reports = [difference_report(step=step, loss=float(step), **FULL) for step in (3, 7)]
    points = written(tmp_path, *reports).scalars()
    first, second = (
        {f"difference/{tag}": value for tag, value in scalars(r).items()} for r in reports
    )
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
        "difference/failed": [(5, 1.0)],
        "difference/seconds": [(5, pytest.approx(0.1))],
        "difference/num_skipped": [(5, 0.0)],
    }
    # a page of charts waits for numbers, which say what it is to show
    assert not (tmp_path / "run" / "difference").exists()


def test_every_chart_of_the_layout_finds_its_tags(tmp_path: Path) -> None:
    reports = [failed_difference(), difference_report(**FULL), difference_report(step=1, **FULL)]
    main = written(tmp_path, *reports, custom_scalars=True)
    tags = main.tags["scalars"]
    assert "custom_scalars__config__" not in main.tags["tensors"]
    (category,) = Events(tmp_path / "run" / "difference").layout().category
    assert category.title == "difference: loss difference"
    charts = {chart.title: chart for chart in category.chart}
    margins = {s.value for chart in charts.values() for s in chart.margin.series}
    assert margins == {
        "difference/mean_abs_difference",
        "difference/required_samples_0.1",
        "difference/required_samples_1e-05",
    }
    for chart in charts.values():
        for series in chart.margin.series:
            assert {series.value, series.lower, series.upper} <= tags
    lines = {
        title: {tag for tag in tags for pattern in chart.multiline.tag if re.match(pattern, tag)}
        for title, chart in charts.items()
        if chart.multiline.tag
    }
    assert lines == {
        "spread of the losses: S and MAD": {
            "difference/deviation",
            "difference/mean_absolute_deviation",
        },
        "loss of training and held-out samples": {"difference/loss", "difference/held_out_loss"},
        "variance of the loss around the weights": {
            "difference/neighbourhood_variance_0.1",
            "difference/neighbourhood_variance_1e-05_in_3",
        },
    }


def test_charts_are_of_what_was_asked_for(tmp_path: Path) -> None:
    written(tmp_path, difference_report(), custom_scalars=True)
    (category,) = Events(tmp_path / "run" / "difference").layout().category
    assert len(category.chart) == 3
