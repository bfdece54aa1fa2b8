"""What TensorBoard finds in the event files, read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.utilities import rank_zero_only

from lightning_hessian.records import SpectralDensity, SpectrumReport
from lightning_hessian.show import ReportWriter, rasterize, scalars, spectrum_figure
from lightning_hessian.show.tensorboard import NUM_BUCKETS, tensorboard_loggers
from tests.helpers.events import Events
from tests.helpers.reports import density_at, failed_at, report_at, trace_at


def _tags(report: SpectrumReport) -> dict[str, float]:
    return {f"hessian/{tag}": value for tag, value in scalars(report).items()}


def written(
    directory: Path, *reports: Any, custom_scalars: bool = False, figures: bool = False
) -> Events:
    logger = TensorBoardLogger(directory, name=None, version="run")
    writer = ReportWriter(prefix="hessian", custom_scalars=custom_scalars)
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
    assert tags["histograms"] == {"hessian/density", "hessian/density_symlog"}
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
        "hessian/failed",
        "hessian/seconds",
        "hessian/num_skipped",
    }
    assert events.scalars()["hessian/failed"] == [(5, 1.0)]
    assert events.tags["histograms"] == events.tags["images"] == set()


DENSITIES = {
    "spread": density_at(-1.0, 0.0, 0.5, 4.0, shares=[0.1, 0.6, 0.2, 0.1]),
    "outlier": density_at(-1e-6, 0.0, 1e-6, 1e3, shares=[0.3, 0.399, 0.3, 0.001]),
    "one value": density_at(5.0),
    "zero": density_at(0.0),
    "one small value": density_at(1e-9),
    "as good as one": density_at(1e6, 1e6 + 1e-9),
    "one large negative value": density_at(-1e12),
}


@pytest.mark.parametrize("name", DENSITIES)
@pytest.mark.parametrize("tag", ["density", "density_symlog"])
def test_histograms_hold_all_eigenvalues_inside_their_buckets(
    tmp_path: Path, name: str, tag: str
) -> None:
    density: SpectralDensity = DENSITIES[name]
    events = written(tmp_path, report_at(3, density=density))
    ((step, histogram),) = events.histograms(f"hessian/{tag}")
    limits, counts = np.array(histogram.bucket_limit), np.array(histogram.bucket)
    assert step == 3
    assert len(limits) == len(counts) == NUM_BUCKETS
    assert np.all(np.diff(limits) > 0)
    assert np.all(counts >= 0)
    assert counts.sum() == pytest.approx(1000, rel=1e-9)
    assert histogram.num == 1000
    nodes = density.nodes.numpy()
    if tag == "density_symlog":
        nodes = np.sign(nodes) * np.log10(1 + np.abs(nodes) / 1e-3)
    width = limits[1] - limits[0]
    assert histogram.min == pytest.approx(limits[0] - width)
    assert histogram.max == pytest.approx(limits[-1])
    assert histogram.min < nodes.min() <= nodes.max() < histogram.max
    # spread symmetrically over about a bucket: the mean stays to a bucket's hundredths
    mean = float(density.weights.numpy() @ nodes)
    assert histogram.sum / 1000 == pytest.approx(mean, abs=0.05 * width)


def test_a_nodes_mass_lies_around_it(tmp_path: Path) -> None:
    events = written(tmp_path, report_at(density=DENSITIES["spread"]))
    ((_, histogram),) = events.histograms("hessian/density")
    limits, counts = np.array(histogram.bucket_limit), np.array(histogram.bucket)
    width = limits[1] - limits[0]
    near = np.abs(limits - 0.5 * width) < 2.5 * width  # buckets within 2.5 widths of zero
    assert counts[near].sum() == pytest.approx(600, rel=1e-3)


def test_the_layout_stands_in_a_run_of_its_own_once(tmp_path: Path) -> None:
    main = written(tmp_path, report_at(0), report_at(1), custom_scalars=True)
    assert "custom_scalars__config__" not in main.tags["tensors"]
    (category,) = Events(tmp_path / "run" / "hessian").layout().category
    assert category.title == "hessian: Hessian of the training loss"
    charts = {chart.title: chart for chart in category.chart}
    assert list(charts["largest eigenvalues"].multiline.tag) == [r"hessian/eig_\d+$"]
    (band,) = charts["largest eigenvalue and its 95 % interval"].margin.series
    assert (band.value, band.lower, band.upper) == (
        "hessian/eig_1",
        "hessian/eig_1_lower",
        "hessian/eig_1_upper",
    )
    (margin,) = charts["trace and its 95 % interval"].margin.series
    assert (margin.value, margin.lower, margin.upper) == (
        "hessian/trace",
        "hessian/trace_lower",
        "hessian/trace_upper",
    )
    named = {s.value for chart in category.chart for s in chart.margin.series}
    assert named <= main.tags["scalars"]
    assert len(charts) == 6


def test_no_layout_without_custom_scalars(tmp_path: Path) -> None:
    written(tmp_path, report_at(0), custom_scalars=False)
    assert not (tmp_path / "run" / "hessian").exists()


def test_a_layout_of_the_users_stays(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, name=None, version="run")
    logger.experiment.add_custom_scalars({"mine": {"a": ["Multiline", ["train_loss"]]}})
    ReportWriter(prefix="hessian", custom_scalars=True).write([logger], report_at())
    logger.experiment.flush()
    assert Events(tmp_path / "run").layout().category[0].title == "mine"
    assert Events(tmp_path / "run" / "hessian").layout().category[0].title.startswith("hessian")


def test_two_names_have_two_pages_of_charts(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, name=None, version="run")
    for name in ("hessian", "top"):
        ReportWriter(prefix=name, custom_scalars=True).write([logger], report_at())
    logger.experiment.flush()
    titles = [
        Events(tmp_path / "run" / name).layout().category[0].title for name in ("hessian", "top")
    ]
    # TensorBoard merges categories of one title into one
    assert titles == [f"{name}: Hessian of the training loss" for name in ("hessian", "top")]
    assert {"hessian/eig_1", "top/eig_1"} <= Events(tmp_path / "run").scalars().keys()


def test_other_loggers_get_the_scalars_only(tmp_path: Path) -> None:
    class Recording(DummyLogger):
        def log_metrics(self, metrics: Any, step: int | None = None) -> None:
            seen.append((metrics, step))

        @property
        def experiment(self) -> Any:
            return object()

    seen: list[Any] = []
    csv = CSVLogger(tmp_path)
    report = report_at(3)
    ReportWriter(prefix="hessian", custom_scalars=True).write([Recording(), csv], report)
    assert seen == [(_tags(report), 3)]
    assert list(tensorboard_loggers([Recording(), csv])) == []


def test_only_the_first_process_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    logger = TensorBoardLogger(tmp_path, name=None, version="run")
    ReportWriter(prefix="hessian", custom_scalars=True).write([logger], report_at())
    assert not (tmp_path / "run").exists()


def test_the_density_does_not_depend_on_the_default_type(tmp_path: Path) -> None:
    wanted = written(tmp_path / "a", report_at()).histograms("hessian/density")
    torch.set_default_dtype(torch.bfloat16)
    try:
        events = written(tmp_path / "b", report_at())
    finally:
        torch.set_default_dtype(torch.float32)
    assert events.histograms("hessian/density") == wanted
