"""Pictures at the size of TensorBoard's cards: legible there, and on axes that can be compared."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lightning_hessian.records import Eigenvalues, StabilityMargin
from lightning_hessian.show import (
    critical_point_figures,
    loss_difference_figures,
    rasterize,
    spectrum_figures,
)
from lightning_hessian.show.figures.spectrum_card import spectrum_card
from tests.helpers.artists import bars
from tests.helpers.critical_points import point_at
from tests.helpers.loss_difference_reports import (
    HELD_OUT,
    LOSSES,
    bowl,
    difference_report,
    failed_difference,
    neighbourhood_at,
)
from tests.helpers.reports import density_at, eigenvalues_at, failed_at, report_at

SHOWN_WIDTH, SHOWN_HEIGHT = 350, 235
"""Pixels of an image in TensorBoard 2.21: as wide as that, and some 215 high, a note more."""
DIFFERENCE = difference_report(
    thresholds=(0.1, 1e-5),
    held_out=HELD_OUT,
    neighbourhood=(neighbourhood_at(0.1), neighbourhood_at(0.1, dimensions=3)),
    surface=bowl(),
)
CARDS: dict[str, Callable[[], Figure]] = {
    f"{kind} {name}": figure
    for kind, figures in {
        "spectrum": spectrum_figures([report_at(0), report_at(1)]),
        "point": critical_point_figures([point_at(0), point_at(1)]),
        "difference": loss_difference_figures([DIFFERENCE, DIFFERENCE]),
    }.items()
    for name, figure in figures.items()
}


def axes_of(figures: dict[str, Callable[[], Figure]], name: str) -> Axes:
    return figures[name]().axes[0]


def spectrum(*reports: Any) -> Axes:
    return axes_of(spectrum_figures(reports), "spectrum")


def course(*reports: Any) -> Axes:
    return axes_of(spectrum_figures(reports), "history")


def at_end(value: float, smallest: float = -0.1, step: int = 1, **changes: Any) -> Any:
    ends = eigenvalues_at([value], [0.01]), eigenvalues_at([smallest], [0.01])
    return report_at(step, largest=ends[0], smallest=ends[1], **changes)


@pytest.mark.parametrize("name", CARDS)
def test_letters_are_at_least_eight_pixels_where_tensorboard_shows_them(name: str) -> None:
    figure = CARDS[name]()
    height, width, _ = rasterize(figure).shape
    assert height * SHOWN_WIDTH / width <= SHOWN_HEIGHT
    shown = SHOWN_WIDTH / (72 * figure.get_figwidth())
    for text in figure.findobj(lambda artist: hasattr(artist, "get_fontsize")):
        if text.get_text().strip():
            assert text.get_fontsize() * shown >= 8, text


def test_the_axis_of_eigenvalues_is_the_same_for_all_steps_and_runs_that_begin_alike() -> None:
    start = at_end(0.7, step=0)
    one, other = spectrum(start, at_end(22.0)), spectrum(start, at_end(3e-3, -8.0))
    assert one.get_xlim() == other.get_xlim() == spectrum(start).get_xlim() == (-10, 100)
    assert course(start, at_end(22.0)).get_ylim() == (-1, 100)
    # of a loss a thousand times as large likewise
    assert spectrum(at_end(700.0), at_end(22e3)).get_xlim() == (-1e4, 1e5)


def test_a_spectrum_that_leaves_the_axis_makes_it_longer_by_decades() -> None:
    start = at_end(0.7, step=0)
    assert spectrum(start, at_end(220.0)).get_xlim() == (-10, 1000)
    assert spectrum(start, at_end(220.0), at_end(1.0)).get_xlim() == (-10, 1000)
    assert course(start, at_end(1.0, -30.0)).get_ylim() == (-100, 100)


@pytest.mark.parametrize("value", [0.0, math.nan])
def test_without_an_eigenvalue_there_is_an_axis_all_the_same(value: float) -> None:
    report = at_end(value, value, density=density_at(0.0))
    assert spectrum(report).get_xlim() == (-10, 100)
    none = report_at(largest=Eigenvalues(), smallest=Eigenvalues())
    assert rasterize(course(none, none).figure).std() > 0


def test_the_height_is_the_share_of_the_eigenvalues_and_none_is_passed_by() -> None:
    density = density_at(0.0, 30.0, shares=[0.999, 0.001], bandwidth=0.01)
    axes = spectrum(at_end(0.7, step=0), at_end(30.0, density=density))
    (curve,) = (line for line in axes.lines if len(line.get_xdata()) > 100)
    x, y = np.asarray(curve.get_xdata()), np.asarray(curve.get_ydata())
    assert y[np.abs(x) < 1e-9].max() == pytest.approx(0.999)
    # narrower than the even grid, and one of the thousand eigenvalues
    assert y[x > 1].max() == pytest.approx(1e-3)
    assert np.all(np.diff(x) >= 0)
    assert axes.get_ylim() == pytest.approx((0.3e-3, 2.0))


def test_the_band_of_a_spectrum_is_two_standard_errors_of_the_probes() -> None:
    density = density_at(0.0, 1.0)
    density.probe_weights[:] = torch.tensor([[0.4, 0.6], [0.6, 0.4]])
    (band,) = spectrum(report_at(density=density)).collections
    corners = band.get_paths()[0].vertices
    at_zero = corners[np.abs(corners[:, 0]) < 1e-9][:, 1]
    # the two probes differ by 0.2: a standard error of 0.1
    assert (at_zero.min(), at_zero.max()) == pytest.approx((0.3, 0.7))


def test_marks_of_a_spectrum_are_hollow_where_not_converged() -> None:
    marks = [line for line in spectrum(report_at()).lines if line.get_marker() == "^"]
    found = {tuple(m.get_xdata()): m.get_markerfacecolor() == "none" for m in marks}
    assert {(4.0,): False, (2.0,): True, (-1.0,): False}.items() <= found.items()


def test_a_report_without_a_density_has_no_card_of_it() -> None:
    with pytest.raises(ValueError, match="`reports` must end in one with a density, got None"):
        spectrum_card([report_at(0), report_at(1, density=None)])


def test_the_course_has_the_largest_with_its_interval_and_the_edge() -> None:
    edge = StabilityMargin(
        sharpness=1.5, bound=0.25, threshold=2.0, largest_eigenvalue=20.0, optimizer="SGD"
    )
    axes = course(report_at(0, edge=edge), failed_at(3), at_end(3.0, step=7))
    x, y, segments = bars(axes, "largest")
    assert (x.tolist(), y.tolist()) == ([0, 7], [4.0, 3.0])
    np.testing.assert_allclose(np.ptp(segments[:, :, 1], axis=1), [0.02, 0.02])
    lines = {line.get_label(): line.get_ydata() for line in axes.lines}
    assert lines["edge"][0] == 20.0
    assert math.isnan(lines["edge"][1])
    assert list(lines["smallest"]) == [-1.0, -0.1]
    assert axes.figure.get_suptitle() == "Eigenvalues until step 7, the largest 3"
    above = course(at_end(0.7, edge=replace(edge, largest_eigenvalue=190.0)), at_end(0.7))
    assert "edge at 190" in [line.get_label() for line in above.lines]


def differences(*reports: Any) -> Axes:
    return axes_of(loss_difference_figures(reports), "difference")


def test_the_axes_of_differences_stay_while_losses_come_together() -> None:
    start = difference_report()
    closer = difference_report(LOSSES / 50, 5)
    first, later = differences(start), differences(start, failed_difference(2), closer)
    assert (first.get_xlim(), first.get_ylim()) == (later.get_xlim(), later.get_ylim())
    low, high = math.log10(later.get_ylim()[0]), math.log10(later.get_ylim()[1])
    assert (low, high) == (round(low), round(high))
    far = difference_report(1e-9 * LOSSES, 9)
    assert differences(start, far).get_ylim()[0] < first.get_ylim()[0]


def test_the_sizes_that_thresholds_need_stand_at_their_marks() -> None:
    report = difference_report(thresholds=(0.1, 1e-9))
    near, far = report.required_sample_sizes
    axes = differences(report)
    texts = [text.get_text() for text in axes.texts]
    assert f"k* = {near.size:,}" in texts
    assert f"{far.size:,} →" in texts
    assert axes.get_xlim()[1] == 100 * report.num_samples


def test_the_course_of_sizes_is_on_whole_decades_and_of_zeros_linear() -> None:
    asked = [difference_report(step=step, thresholds=(1e-3,)) for step in (0, 5)]
    axes = axes_of(loss_difference_figures(asked), "history")
    assert axes.get_yscale() == "log"
    assert all(math.log10(end) == round(math.log10(end)) for end in axes.get_ylim())
    equal = [difference_report(torch.ones(6), step) for step in (0, 5)]
    assert axes_of(loss_difference_figures(equal), "history").get_yscale() == "linear"
    assert rasterize(differences(*equal).figure).std() > 0


def test_what_is_left_of_the_gradient_is_drawn_from_none_to_all() -> None:
    axes = axes_of(critical_point_figures([point_at(0), point_at(5)]), "history")
    assert axes.get_ylim() == (-0.03, 1.03)
    assert [list(line.get_xdata()) for line in axes.lines] == [[0, 5]] * 3
    assert axes.figure.get_suptitle().endswith(point_at().kind)
