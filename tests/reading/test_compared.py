"""Which spectra are drawn over each other, under which names, and where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes

from lightning_hessian import RunReports, spectra_figure
from lightning_hessian.show import overlay_figure, rasterize, write_sidecar
from tests.helpers.reports import density_at, eigenvalues_at, failed_at, report_at


def wide(step: int, reach: float, **changes: Any) -> Any:
    """A report whose spectrum reaches so far."""
    return report_at(
        step,
        density=density_at(-0.1 * reach, 0.0, reach, bandwidth=0.02 * reach),
        largest=eigenvalues_at([reach], [0.0]),
        smallest=eigenvalues_at([-0.1 * reach], [0.0]),
        **changes,
    )


def curves(axes: Axes) -> dict[str, Any]:
    return {str(each.get_label()): each for each in axes.lines if each.get_marker() == "None"}


def test_each_curve_is_its_density_and_triangles_stand_at_its_ends() -> None:
    reports = [wide(10, 1.0), wide(20, 3.0, epoch=1)]
    (axes,) = spectra_figure(reports).axes
    found = curves(axes)
    assert list(found) == ["step 10 (epoch 0)", "step 20 (epoch 1)"]
    floor = axes.get_ylim()[0]
    for curve, report in zip(found.values(), reports, strict=True):
        x = torch.from_numpy(np.asarray(curve.get_xdata()))
        wanted = report.density.evaluate(x).clamp_min(floor).numpy()
        np.testing.assert_allclose(curve.get_ydata(), wanted, rtol=1e-12)
    ends = [list(each.get_xdata()) for each in axes.lines if each.get_marker() == "^"]
    assert ends == [[-0.1, 1.0], [pytest.approx(-0.3), 3.0]]
    assert (axes.get_yscale(), axes.get_xscale()) == ("log", "linear")
    # from light to dark
    brightness = [sum(curve.get_color()[:3]) for curve in found.values()]
    assert brightness[0] > brightness[1]


def test_spectra_that_reach_differently_far_are_all_seen() -> None:
    figure = spectra_figure([wide(0, 0.5), wide(9, 50.0)])
    (axes,) = figure.axes
    places = axes.transAxes.inverted().transform(
        axes.transData.transform([(0, 1), (0.5, 1), (50, 1)])
    )[:, 0]
    # on a linear axis the first spectrum had a hundredth of the second's room
    assert places[1] - places[0] > 0.05
    assert places[2] < 1
    labels = [text.get_text() for text in axes.get_xticklabels()]
    assert labels == ["0", "-1", "1", "10"]
    assert rasterize(figure).std() > 0


def test_of_a_long_course_as_many_as_are_asked_for_are_drawn_evenly() -> None:
    course = RunReports(
        run="version_3", name="hessian", reports=tuple(wide(n, 1.0) for n in range(20))
    )
    figure = spectra_figure([course])
    (axes,) = figure.axes
    steps = [int(label.split()[1]) for label in curves(axes)]
    assert steps == [0, 3, 5, 8, 11, 14, 16, 19]
    assert figure.get_suptitle() == ("Hessian of the training loss: 8 of 20 spectra of version_3")
    assert len(curves(spectra_figure([course], max_spectra=2).axes[0])) == 2
    assert axes.get_title().startswith("1,000 parameters, all 26 samples")


def test_of_several_runs_the_last_spectrum_of_each_is_drawn(tmp_path: Path) -> None:
    for run, reach in (("a", 1.0), ("b", 2.0)):
        (tmp_path / run).mkdir()
        for step in (10, 20):
            report = wide(step, reach, mode="train" if run == "b" else "eval")
            write_sidecar(report, tmp_path / run / f"{step}.ckpt", name="hessian")
    # what has no density, or no numbers, has no spectrum
    write_sidecar(report_at(30, density=None), tmp_path / "a" / "30.ckpt", name="hessian")
    write_sidecar(failed_at(30), tmp_path / "b" / "30.ckpt", name="hessian")
    figure = spectra_figure(tmp_path)
    assert list(curves(figure.axes[0])) == ["a, step 20 (epoch 0)", "b, step 20 (epoch 0)"]
    assert figure.get_suptitle().endswith(": 2 runs, the last spectrum of each")
    assert figure.axes[0].get_title() == "measured on different data, see the reports"


def test_without_a_density_there_is_no_figure() -> None:
    with pytest.raises(ValueError, match="`reports` must hold spectra with a density, got none"):
        spectra_figure([report_at(3, density=None), failed_at(4)])
    with pytest.raises(ValueError, match="`max_spectra` must be at least 2, got 1"):
        spectra_figure([report_at(3)], max_spectra=1)
    with pytest.raises(ValueError, match="`spectra` must hold reports with a density, got none"):
        overlay_figure([], title="none")
    with pytest.raises(ValueError, match=r"with a density, got a without one\. Measure with"):
        overlay_figure([("a", failed_at())], title="none")
