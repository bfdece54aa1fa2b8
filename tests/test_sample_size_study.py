"""What the study of widths and depths concludes, on inputs whose answer is known."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy.stats import page_trend_test

from examples.networks import ReluMlp
from examples.sample_size_claims import exponential_average, trend_of, value_at_loss
from examples.sample_size_figures import family_figure
from examples.sample_size_runs import Family, Run
from lightning_hessian import LossDifferenceReport
from lightning_hessian.records import DifferenceCurves, Estimate, LossSpread

WIDTHS = (4, 8, 16, 32, 64)


def test_the_network_has_two_matrices_more_than_its_depth_and_no_biases() -> None:
    shapes = [tuple(parameter.shape) for parameter in ReluMlp(width=16, depth=3).parameters()]
    assert shapes == [(16, 784), (16, 16), (16, 16), (16, 16), (10, 16)]


@pytest.mark.parametrize(("k", "factor"), [(100, 20.51), (500, 3.112), (1000, 1.153)])
def test_the_papers_smoothing_inflates_the_true_curve(k: int, factor: float) -> None:
    curve = 1 / (np.arange(1, 2000) + 1)
    smooth = [curve[0]]
    for value in curve[1:]:
        smooth.append(0.99 * smooth[-1] + 0.01 * value)
    average = exponential_average(curve)
    assert average == pytest.approx(smooth, rel=1e-12)
    assert average[k - 1] / curve[k - 1] == pytest.approx(factor, rel=1e-3)


def test_the_probability_of_a_trend_is_that_of_pages_test() -> None:
    generator = np.random.default_rng(0)
    for size in (0.0, 0.3, 0.6):
        values = generator.normal(size=(3, 5)) + size * np.arange(5)
        exact = page_trend_test(values, method="exact").pvalue
        found = trend_of(WIDTHS, values, direction=1).probability
        # four standard errors of 20,000 shuffles
        assert found == pytest.approx(exact, abs=4 * math.sqrt(exact / 20_000) + 1e-4)


def test_a_fall_with_the_width_holds_and_the_same_is_the_opposite_of_a_rise() -> None:
    falling = np.tile(1 / np.array(WIDTHS), (3, 1))
    fall = trend_of(WIDTHS, falling, direction=-1)
    assert fall.mean_correlation == pytest.approx(-1)
    assert fall.verdict == "holds"
    assert fall.steps == "4-8: 3/3, 8-16: 3/3, 16-32: 3/3, 32-64: 3/3"
    rise = trend_of(WIDTHS, falling, direction=1)
    assert rise.verdict == "the opposite holds"
    assert rise.agreeing == (0, 0, 0, 0)


def test_a_trend_that_turns_at_one_step_is_told_from_one_that_does_not() -> None:
    turning = np.tile([4.0, 5.0, 3.0, 2.0, 1.0], (3, 1))
    trend = trend_of(WIDTHS, turning, direction=-1)
    assert trend.verdict == "holds on the whole, not at every step"
    assert trend.agreeing == (0, 3, 3, 3)


def test_values_that_are_missing_or_tied_are_no_evidence() -> None:
    nan = math.nan
    values = np.array([[3.0, nan, 2.0, nan, 1.0], [5.0, nan, nan, nan, nan], [0.0] * 5])
    trend = trend_of(WIDTHS, values, direction=-1)
    assert trend.correlations == pytest.approx((-1, 0))
    # one of the six orders of three, whatever the ties
    assert trend.probability == pytest.approx(1 / 6, abs=0.02)
    assert trend.verdict == "undecided"
    assert trend.compared == (1, 1, 1, 1)
    with pytest.raises(ValueError, match=r"`values` must hold at least two for one seed\."):
        trend_of(WIDTHS, values[1:2], direction=-1)


def test_a_quantity_is_read_off_where_the_loss_first_falls_to_the_level() -> None:
    losses, values = [2.0, 1.0, 1.5, 0.5], [10.0, 20.0, 30.0, 40.0]
    assert value_at_loss(losses, values, 1.25) == pytest.approx(17.5)
    assert value_at_loss(losses, values, 0.5) == 40
    assert math.isnan(value_at_loss(losses, values, 2.5))
    assert math.isnan(value_at_loss(losses, values, 0.4))


def run_with(width: int, seed: int, course: list[tuple[float, float]]) -> Run:
    """A run of 101 samples whose losses and mean absolute deviations are given."""
    reports = [
        LossDifferenceReport(
            loss=loss,
            spread=LossSpread(mean_absolute_deviation=Estimate(value=deviation)),
            num_samples=101,
        )
        for loss, deviation in course
    ]
    deviation = course[-1][1]
    sizes = torch.arange(1, 101, dtype=torch.float64)
    curves = DifferenceCurves(sample_sizes=sizes, mean_abs=deviation / (sizes + 1))
    final = dataclasses.replace(reports[-1], differences=curves)
    return Run(
        data="images",
        width=width,
        depth=5,
        seed=seed,
        report=final,
        course=reports,
        train_accuracy=0.9,
        test_accuracy=0.8,
        permuted=(deviation / (sizes + 1)).numpy(),
    )


def family(ends: dict[int, list[tuple[float, float]]]) -> Family:
    """Three seeds, each of which begins at a loss of 2.3 that is the same for all samples."""
    return Family(
        [[run_with(w, seed, [(2.3, 0.0), *end]) for w, end in ends.items()] for seed in range(3)],
        "width",
    )


def test_a_difference_that_mirrors_the_loss_has_no_trend_at_equal_loss() -> None:
    # all come down the same line, wider ones further
    line = {1.0: 0.8, 0.5: 0.6, 0.25: 0.3, 0.125: 0.15}
    points = list(line.items())
    ends = {4 * 2**n: points[: n + 1] for n in range(4)}
    trends = family(ends).trends()
    assert trends["training loss"].verdict == "holds"
    assert trends["difference"].verdict == "holds"
    equal = trends["difference at equal loss"]
    assert equal.correlations == pytest.approx([0, 0, 0])
    assert equal.verdict == "undecided"


def test_networks_that_did_not_learn_are_left_out_at_equal_loss_alone() -> None:
    ends = {4: [(2.3, 0.0)], 8: [(1.0, 0.9)], 16: [(0.9, 0.7)], 32: [(0.8, 0.5)]}
    trends = family(ends).trends()
    assert trends["difference"].compared == (3, 3, 3)
    assert trends["difference"].agreeing == (0, 3, 3)
    assert trends["difference, of those that learned"].compared == (0, 3, 3)
    equal = trends["difference at equal loss"]
    assert equal.compared == (0, 3, 3)
    assert equal.verdict == "holds"


def test_the_figure_shows_closed_form_smoothed_orders_and_difference_against_loss() -> None:
    figure = family_figure([family({8: [(1.0, 0.9)], 16: [(0.5, 0.7)]})])
    closed, script, against = figure.axes
    k = np.arange(1, 101)
    assert closed.lines[0].get_ydata() == pytest.approx(0.9 / (k + 1))
    assert closed.lines[1].get_ydata() == pytest.approx(0.7 / (k + 1))
    smooth, true = script.lines[:2]
    assert smooth.get_ydata() == pytest.approx(exponential_average(0.9 / (k + 1)))
    assert true.get_ydata() == pytest.approx(0.9 / (k + 1))
    ends = against.lines[3].get_xydata()  # after the courses of three seeds
    assert ends == pytest.approx(np.tile([1.0, 1e5 * 0.9 / 100], (3, 1)))
    assert [t.get_text() for t in closed.get_legend().get_texts()] == ["width 8", "width 16"]


def test_networks_that_died_are_named_and_not_drawn() -> None:
    figure = family_figure([family({4: [(2.3, 0.0)], 8: [(1.0, 0.9)]})])
    dead, alive = figure.axes[0].lines
    assert len(dead.get_xdata()) == 0
    assert dead.get_label() == "width 4 (3 of 3 died)"
    assert alive.get_ydata() == pytest.approx(0.9 / (np.arange(1, 101) + 1))
