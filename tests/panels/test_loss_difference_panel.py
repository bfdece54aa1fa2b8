"""The figure of differences against the number of samples: what is drawn where."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from torch import Tensor

from lightning_hessian.records import LossDifferenceReport
from lightning_hessian.show import loss_difference_figure, rasterize
from tests.helpers.artists import band, bars, line
from tests.helpers.loss_difference_reports import (
    DERIVATIVES,
    HELD_OUT,
    LOSSES,
    difference_report,
    failed_difference,
)

FORTY = torch.linspace(0.1, 2, 40, dtype=torch.float64)


def axes_of(report: LossDifferenceReport) -> Axes:
    return loss_difference_figure(report).axes[0]


def test_curves_are_the_reports_numbers_on_two_logarithmic_axes() -> None:
    report = difference_report(FORTY)
    axes = axes_of(report)
    k = report.differences.sample_sizes.numpy()
    for label, wanted in {
        "mean absolute difference": report.differences.mean_abs,
        "root mean square": report.differences.rms,
        "worst case, range/(k+1)": (2 - 0.1) / (k + 1),
        "asymptote MAD/(k+1)": report.spread.mean_absolute_deviation.value / (k + 1),
    }.items():
        x, y = line(axes, label)
        np.testing.assert_allclose(x, k, rtol=1e-15)
        np.testing.assert_allclose(y, wanted, rtol=1e-12)
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert axes.get_ylim()[0] < float(report.differences.mean_abs.min()) < axes.get_ylim()[1]


def test_bands_are_two_standard_errors_and_the_closed_form_bounds() -> None:
    report = difference_report(FORTY)
    axes = axes_of(report)
    x, lower, upper = band(axes, "its ± 2 standard errors")
    np.testing.assert_allclose(x, report.differences.sample_sizes)
    error = 2 * report.differences.mean_abs_standard_error
    np.testing.assert_allclose(upper, report.differences.mean_abs + error, rtol=1e-12)
    np.testing.assert_allclose(lower, report.differences.mean_abs - error, rtol=1e-12)
    _, lower, upper = band(axes, "its closed-form bounds")
    np.testing.assert_allclose(lower, report.differences.mean_abs_lower, rtol=1e-12)
    np.testing.assert_allclose(upper, report.differences.mean_abs_upper, rtol=1e-12)


def test_a_band_reaching_below_zero_goes_to_the_bottom_of_the_axis() -> None:
    report = difference_report(
        differences={"mean_abs_standard_error": torch.full((5,), 10.0).double()}
    )
    axes = axes_of(report)
    _, lower, upper = band(axes, "its ± 2 standard errors")
    assert (lower > 0).all()
    assert (lower < axes.get_ylim()[0]).all()
    assert (upper > axes.get_ylim()[1]).all()


def test_unknown_errors_have_no_band() -> None:
    report = difference_report(LOSSES[:3])
    assert report.differences.mean_abs_standard_error.isnan().all()
    assert "its ± 2 standard errors" not in axes_of(report).get_legend_handles_labels()[1]


def test_one_order_is_dots_and_zeros_have_no_place() -> None:
    report = difference_report(
        differences={"path": torch.tensor([0.5, 0, 0.1, 0, 0.2], dtype=torch.float64)}
    )
    x, y = line(axes_of(report), "along one order")
    assert (list(x), list(y)) == ([1, 3, 5], [0.5, 0.1, 0.2])


def test_simulated_orders_have_bars_of_two_errors() -> None:
    report = difference_report(FORTY, num_orders=20)
    x, y, segments = bars(axes_of(report), "mean of 20 orders, ± 2 errors")
    np.testing.assert_allclose(x, report.differences.sample_sizes)
    np.testing.assert_allclose(y, report.differences.orders_mean_abs)
    np.testing.assert_allclose(
        np.ptp(segments[:, :, 1], axis=1), 4 * report.differences.orders_standard_error, rtol=1e-9
    )
    labels = axes_of(difference_report(FORTY)).get_legend_handles_labels()[1]
    assert not [label for label in labels if "orders" in label]


@pytest.mark.parametrize(
    ("losses", "threshold", "is_measured"),
    # of the last the interval reaches further up than down
    [(FORTY, 0.1, True), (FORTY, 1e-3, False), (LOSSES, 0.1, False)],
)
def test_a_threshold_is_marked_at_the_size_it_needs(
    losses: Tensor, threshold: float, is_measured: bool
) -> None:
    report = difference_report(losses, thresholds=(threshold,))
    needed = report.required_sample_size(threshold)
    axes = axes_of(report)
    label = f"below {threshold:g} from k* = {needed.size:,}"
    x, y, segments = bars(axes, label)
    assert (list(x), list(y)) == ([needed.size], [threshold])
    assert list(segments[0, :, 0]) == [needed.lower, needed.upper]
    (container,) = [found for found in axes.containers if found.get_label() == label]
    assert (container[0].get_markerfacecolor() == "black") == is_measured
    heights = [list(found.get_ydata()) for found in axes.lines]
    assert [threshold, threshold] in heights
    assert axes.get_xlim()[1] > needed.upper


def test_beyond_all_samples_the_law_is_dashed_as_far_as_a_threshold_needs() -> None:
    report = difference_report(FORTY, thresholds=(1e-3,))
    axes = axes_of(report)
    x, y = line(axes, "extrapolated, MAD/(k+1)")
    assert x[0] == pytest.approx(40)
    assert x[-1] == pytest.approx(2 * report.required_sample_size(1e-3).upper)
    np.testing.assert_allclose(y, report.spread.mean_absolute_deviation.value / (x + 1), rtol=1e-12)
    assert [40, 40] in [list(found.get_xdata()) for found in axes.lines]
    assert "N = 40" in [text.get_text() for text in axes.texts]
    # and meets the measured curve, (N / (N - 1)) MAD / N there, to the order of 1/N
    last = line(axes, "mean absolute difference")[1][-1]
    assert y[0] == pytest.approx(last, rel=2 / 39)


def test_held_out_losses_are_extrapolated_where_there_are_such() -> None:
    axes = axes_of(difference_report(FORTY, thresholds=(1e-2,), held_out=HELD_OUT))
    x, y = line(axes, "extrapolated, held-out losses")
    np.testing.assert_allclose(y, 1.0 / (x + 1), rtol=1e-12)


def test_a_threshold_far_away_leaves_the_curves_their_room() -> None:
    axes = axes_of(difference_report(FORTY, thresholds=(1e-9,)))
    assert axes.get_xlim()[1] == 100 * 40
    labels = axes.get_legend_handles_labels()[1]
    assert [label for label in labels if label.endswith(", off the axis")]


@pytest.mark.parametrize("value", [0.0, 0.1, -3.0])
def test_equal_losses_are_said_to_have_no_difference(value: float) -> None:
    report = difference_report(torch.full((7,), value, dtype=torch.float64), thresholds=(0.1,))
    axes = axes_of(report)
    assert list(axes.lines) == []
    (text,) = axes.texts
    assert text.get_text() == f"no difference: all 7 samples\nhave the same loss {value:g}"
    assert rasterize(loss_difference_figure(report)).std() > 0


def test_sentences_and_circumstances_stand_around_the_axes() -> None:
    report = difference_report(FORTY, 12_000, thresholds=(0.1, 1e-3))
    figure = loss_difference_figure(report)
    words = " ".join(figure.get_supxlabel().split())
    assert words == " ".join(f"• {sentence}" for sentence in report.sentences)
    assert figure.get_suptitle() == "Loss difference |L(k + 1) - L(k)| at step 12,000"
    assert figure.axes[0].get_title() == (
        "1,000 parameters, all 40 samples of the training set (TensorDataset), eval mode"
    )


@pytest.mark.parametrize("derivatives", [{}, DERIVATIVES])
def test_sentences_are_not_cut_off(derivatives: Any) -> None:
    report = difference_report(FORTY, thresholds=(1e-9, 1e-7), held_out=HELD_OUT, **derivatives)
    figure = loss_difference_figure(report)
    rasterize(figure)
    (words,) = [text for text in figure.texts if text.get_text() == figure.get_supxlabel()]
    place = words.get_window_extent()
    assert 0 < place.x0 < place.x1 < figure.bbox.width
    assert place.y0 >= 0


def test_derivatives_have_a_panel_of_their_distance_to_those_of_all() -> None:
    report = difference_report(FORTY, **DERIVATIVES)
    _, beside = loss_difference_figure(report).axes
    # S_H / ||H|| = 3: 9 (1/k - 1/40) <= 0.01 from k = 38.3 on; S_g / |g| = 4
    for label, ratio, error in (
        ("Hessian: within 10% from k = 39", 3.0, 0.1),
        ("gradient: within 10% from k = 40", 4.0, 0.2),
    ):
        k, y = line(beside, label)
        assert (k[0], k[-1]) == pytest.approx((1, 39))
        np.testing.assert_allclose(y, ratio * np.sqrt(1 / k - 1 / 40), rtol=1e-9)
        tops = [found.get_paths()[0].vertices[:, 1].max() for found in beside.collections]
        assert [top for top in tops if top == pytest.approx((ratio + 2 * error) * y[0] / ratio)]


def test_without_derivatives_there_is_one_panel() -> None:
    assert len(loss_difference_figure(difference_report(FORTY)).axes) == 1
    no_norm = {
        "gradient": dataclasses.replace(DERIVATIVES["gradient"], norm=0.0),
        "hessian": dataclasses.replace(DERIVATIVES["hessian"], norm=math.nan),
    }
    assert len(loss_difference_figure(difference_report(FORTY, **no_norm)).axes) == 1


@pytest.mark.parametrize("losses", [LOSSES[:2], LOSSES[:5], LOSSES.exp().exp()])
@pytest.mark.parametrize("thresholds", [(), (0.05, 10.0), (1e-30,)])
def test_few_and_heavy_tailed_losses_are_drawn(losses: Any, thresholds: Any) -> None:
    figure = loss_difference_figure(difference_report(losses, thresholds=thresholds))
    assert rasterize(figure).std() > 0


def test_without_differences_there_is_no_figure() -> None:
    with pytest.raises(ValueError, match=r"must hold differences.*\(failure: ValueError: no\)"):
        loss_difference_figure(failed_difference())
