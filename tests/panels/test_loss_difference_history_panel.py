"""Loss differences over training: steps, error bars, and failed reports left out."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes

from lightning_hessian.show import loss_difference_history_figure, rasterize
from tests.helpers.artists import bars
from tests.helpers.loss_difference_reports import (
    HELD_OUT,
    LOSSES,
    difference_report,
    failed_difference,
    neighbourhood_at,
)

STEPS = [0, 20]


def both(**changes: Any) -> list[Any]:
    """Losses that fall to a hundredth, and a failure between."""
    return [
        difference_report(LOSSES, 0, **changes),
        failed_difference(10),
        difference_report(LOSSES / 100, 20, **changes),
    ]


def panels(reports: Any) -> dict[str, Axes]:
    return {axes.get_title(): axes for axes in loss_difference_history_figure(reports).axes}


def test_the_difference_is_the_last_samples_with_its_band() -> None:
    reports = both()
    axes = panels(reports)["mean |difference| by the last sample"]
    (curve,) = axes.lines
    assert list(curve.get_xdata()) == STEPS
    # MAD / (N - 1) of the reference losses
    np.testing.assert_allclose(curve.get_ydata(), [0.1911111111, 0.001911111111], rtol=1e-9)
    (found,) = axes.collections
    top = found.get_paths()[0].vertices[:, 1].max()
    first = reports[0]
    assert top == pytest.approx(
        first.differences.mean_abs[-1] + 2 * first.differences.mean_abs_standard_error[-1]
    )
    assert axes.get_yscale() == "log"


def test_spreads_have_bars_of_two_errors() -> None:
    reports = both()
    axes = panels(reports)["spread of the losses"]
    for label, values, error in (
        ("S", [math.sqrt(1.3746666667), math.sqrt(1.3746666667) / 100], None),
        (
            "MAD",
            [0.9555555556, 0.009555555556],
            reports[0].spread.mean_absolute_deviation.standard_error,
        ),
    ):
        x, y, segments = bars(axes, label)
        assert list(x) == STEPS
        np.testing.assert_allclose(y, values, rtol=1e-9)
        half = error or reports[0].spread.variance.standard_error / (2 * values[0])
        assert np.ptp(segments[0][:, 1]) == pytest.approx(4 * half)


def test_sizes_needed_have_their_intervals_and_all_samples_beside() -> None:
    reports = both(thresholds=(0.1, 0.01))
    axes = panels(reports)["samples needed"]
    for threshold in (0.1, 0.01):
        x, y, segments = bars(axes, f"below {threshold:g}")
        needed = [reports[index].required_sample_size(threshold) for index in (0, 2)]
        assert list(x) == STEPS
        assert list(y) == [size.size for size in needed]
        np.testing.assert_allclose(
            segments[:, :, 1], [[size.lower, size.upper] for size in needed], rtol=1e-12
        )
    (samples,) = [found for found in axes.lines if found.get_label() == "N"]
    assert list(samples.get_ydata()) == [6, 6]


def test_the_variance_around_the_weights_has_a_curve_for_each_ball_and_its_parts() -> None:
    balls = (neighbourhood_at(0.1), neighbourhood_at(0.5, dimensions=3))
    axes = panels(both(neighbourhood=balls))["V(sigma), variance around the weights"]
    for label, ball in zip(("sigma = 0.1", "sigma = 0.5 in 3 dimensions"), balls, strict=True):
        _, y, segments = bars(axes, label)
        assert list(y) == [ball.variance] * 2
        assert np.ptp(segments[0][:, 1]) == pytest.approx(0.04)
    drawn = [list(found.get_ydata()) for found in axes.lines]
    for ball in balls:
        for part in (ball.value_part, ball.linear_part, ball.quadratic_part):
            assert [part, part] in drawn
    labels = axes.get_legend_handles_labels()[1]
    assert {"value part", "linear part", "quadratic part"} <= set(labels)


def test_losses_of_training_and_held_out_samples_stand_together() -> None:
    reports = both(held_out=HELD_OUT)
    axes = panels(reports)["mean loss of the samples"]
    _, trained, segments = bars(axes, "training samples")
    np.testing.assert_allclose(trained, [float(LOSSES.mean()), float(LOSSES.mean()) / 100])
    assert np.ptp(segments[0][:, 1]) == pytest.approx(4 * reports[0].loss_standard_error)
    _, held_out, segments = bars(axes, "held-out samples")
    assert list(held_out) == [1.5, 1.5]
    # variance 2.25 of 50 samples
    assert np.ptp(segments[0][:, 1]) == pytest.approx(4 * 1.5 / math.sqrt(50))


def test_what_was_not_asked_for_has_no_panel() -> None:
    assert len(panels(both())) == 3
    assert len(panels(both(thresholds=(0.1,)))) == 4
    assert len(panels(both(thresholds=(0.1,), neighbourhood=(neighbourhood_at(0.1),)))) == 5


def test_equal_losses_and_unknown_errors_are_drawn() -> None:
    reports = [difference_report(LOSSES * 0 + 1), difference_report(LOSSES[:2], 5)]
    reports[1] = dataclasses.replace(reports[1], loss_standard_error=math.nan)
    figure = loss_difference_history_figure(reports)
    assert figure.axes[0].get_yscale() == "linear"
    assert rasterize(figure).std() > 0


def test_title_and_labels() -> None:
    figure = loss_difference_history_figure(both())
    assert figure.get_suptitle().startswith("Loss difference: 1,000 parameters, all 6 samples")
    assert {axes.get_xlabel() for axes in figure.axes} == {"step"}


def test_without_a_good_report_there_is_no_figure() -> None:
    with pytest.raises(ValueError, match="got 1 failed ones, the last by: ValueError: no"):
        loss_difference_history_figure([failed_difference()])
