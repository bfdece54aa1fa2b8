"""The density's figure: what is drawn where."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes

from lightning_hessian.records import Eigenvalues
from lightning_hessian.show import rasterize, spectrum_figure
from lightning_hessian.show.figures.style import LARGEST, SMALLEST
from tests.helpers.reports import density_at, failed_at, report_at


def axes_of(report: Any) -> Axes:
    (axes,) = spectrum_figure(report).axes
    return axes


def line(axes: Axes, label: str) -> Any:
    (found,) = [artist for artist in axes.lines if artist.get_label() == label]
    return found


def test_the_curve_is_the_density_on_a_logarithmic_axis() -> None:
    report = report_at()
    axes = axes_of(report)
    curve = line(axes, "spectral density")
    x, y = np.asarray(curve.get_xdata()), np.asarray(curve.get_ydata())
    floor = axes.get_ylim()[0]
    wanted = report.density.evaluate(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(y, np.maximum(wanted, floor), rtol=1e-12)
    assert axes.get_yscale() == "log"
    # five widths of the kernel beyond the outermost nodes
    np.testing.assert_allclose(axes.get_xlim(), (-1.5, 4.5))
    np.testing.assert_allclose((x[0], x[-1]), (-1.5, 4.5))
    assert axes.get_ylim()[1] == pytest.approx(3 * wanted.max(), rel=1e-12)


def test_the_faint_line_is_the_height_of_one_eigenvalue() -> None:
    axes = axes_of(report_at())
    height = 1 / (1000 * 0.1 * math.sqrt(2 * math.pi))
    np.testing.assert_allclose(line(axes, "one eigenvalue").get_ydata(), [height, height])
    assert axes.get_ylim()[0] == pytest.approx(height / 10)


def test_marks_stand_at_the_eigenvalues_and_are_hollow_where_not_converged() -> None:
    axes = axes_of(report_at())
    floor = axes.get_ylim()[0]
    for label, value, face, edge in (
        ("largest eigenvalues", 4.0, LARGEST, LARGEST),
        ("largest, not converged", 2.0, "none", LARGEST),
        ("smallest eigenvalues", -1.0, SMALLEST, SMALLEST),
    ):
        marks = line(axes, label)
        assert list(marks.get_xdata()) == [value]
        assert marks.get_ydata()[0] > floor
        assert (marks.get_markerfacecolor(), marks.get_markeredgecolor()) == (face, edge)
    labels = axes.get_legend_handles_labels()[1]
    assert "smallest, not converged" not in labels


def test_the_band_is_two_standard_errors_of_the_probes() -> None:
    density = density_at(0.0, 1.0)
    density.probe_weights[:] = torch.tensor([[0.4, 0.6], [0.6, 0.4]])
    report = report_at(density=density)
    (band,) = axes_of(report).collections
    assert band.get_label() == "± 2 standard errors"
    corners = band.get_paths()[0].vertices
    at_zero = corners[np.isclose(corners[:, 0], 0.0, atol=1e-3)][:, 1]
    # the two probes differ by 0.2 of a kernel: a standard error of 0.1
    peak = 1 / (0.1 * math.sqrt(2 * math.pi))
    assert at_zero.min() == pytest.approx((0.5 - 0.2) * peak, rel=1e-3)
    assert at_zero.max() == pytest.approx((0.5 + 0.2) * peak, rel=1e-3)


def test_a_single_probe_has_no_band() -> None:
    axes = axes_of(report_at(density=density_at(0.0, 1.0, probes=1)))
    assert len(axes.collections) == 0
    assert "± 2 standard errors" not in axes.get_legend_handles_labels()[1]


def test_of_a_single_probe_the_legend_says_so_but_where_all_eigenvalues_are_known() -> None:
    few = report_at(density=density_at(-1.0, 0.0, 4.0, probes=1), num_parameters=4)
    assert line(axes_of(few), "spectral density, by one probe")
    assert line(axes_of(report_at(density=few.density, num_parameters=3)), "spectral density")


def test_titles_say_of_what_and_when() -> None:
    figure = spectrum_figure(report_at(12_000, mode="train"))
    (axes,) = figure.axes
    assert figure.get_suptitle() == "Hessian of the training loss at step 12,000"
    assert axes.get_title() == (
        "1,000 parameters, all 26 samples of the training set (TensorDataset), train mode"
    )
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("eigenvalue", "spectral density")


@pytest.mark.parametrize("node", [0.0, 5.0, -1e-9, 1e12])
def test_a_single_node_is_drawn(node: float) -> None:
    report = report_at(
        density=density_at(node, bandwidth=0.01 * abs(node) or 0.01),
        largest=Eigenvalues(),
        smallest=Eigenvalues(),
        num_parameters=1,
    )
    axes = axes_of(report)
    low, high = axes.get_xlim()
    assert low < node < high
    assert rasterize(spectrum_figure(report)).std() > 0


def test_a_narrow_range_far_from_zero_is_resolved_in_any_default_type() -> None:
    report = report_at(density=density_at(1000.0, 1000.001, bandwidth=1e-5))
    torch.set_default_dtype(torch.bfloat16)
    try:
        curve = line(axes_of(report), "spectral density")
    finally:
        torch.set_default_dtype(torch.float32)
    x, y = np.asarray(curve.get_xdata()), np.asarray(curve.get_ydata())
    assert x.dtype == np.float64
    assert len(np.unique(x)) == len(x)
    mass = float(torch.trapezoid(torch.from_numpy(y), torch.from_numpy(x)))
    assert mass == pytest.approx(1, rel=1e-2)


@pytest.mark.parametrize(
    ("report", "reason"),
    [
        (failed_at(), r"must hold a density, got None.*\(failure: ValueError: no\)"),
        (report_at(density=None), r"Measure with `density=True`.*\(failure: None\)"),
    ],
)
def test_without_a_density_there_is_no_figure(report: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        spectrum_figure(report)


def test_the_image_has_three_channels_and_pyplot_knows_nothing() -> None:
    image = rasterize(spectrum_figure(report_at()))
    assert image.shape == (540, 960, 3)
    assert image.dtype == np.uint8
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []
