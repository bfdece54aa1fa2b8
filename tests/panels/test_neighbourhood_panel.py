"""The variance around the weights: measured, predicted, and in parts."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lightning_hessian.show import neighbourhood_figure, rasterize
from tests.helpers.artists import bars, line
from tests.helpers.loss_difference_reports import (
    difference_report,
    failed_difference,
    neighbourhood_at,
)

SIGMAS = [0.01, 0.1, 1.0]


def test_measurement_prediction_and_parts_stand_at_their_sigma() -> None:
    # in any order
    variances = tuple(neighbourhood_at(sigma) for sigma in reversed(SIGMAS))
    (axes,) = neighbourhood_figure(difference_report(neighbourhood=variances)).axes
    x, y, segments = bars(axes, "V(sigma) measured, ± 2 errors")
    s = np.array(SIGMAS)
    np.testing.assert_allclose(x, s)
    np.testing.assert_allclose(y, 1 + 10 * s**2 + 100 * s**4)
    np.testing.assert_allclose(np.ptp(segments[:, :, 1], axis=1), 0.04, rtol=1e-9)
    for label, wanted in {
        "second-order prediction": y,
        "value part": np.ones(3),
        "linear part": 10 * s**2,
        "quadratic part": 100 * s**4,
    }.items():
        np.testing.assert_allclose(line(axes, label), (s, wanted))
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")


def test_a_negative_part_is_hollow() -> None:
    variances = (neighbourhood_at(0.1, linear_part=-0.5), neighbourhood_at(0.2, linear_part=0.1))
    (axes,) = neighbourhood_figure(difference_report(neighbourhood=variances)).axes
    assert [list(values) for values in line(axes, "linear part, negative")] == [[0.1], [0.5]]
    assert list(line(axes, "linear part")[1]) == [0.5, 0.1]


def test_without_derivatives_there_is_no_prediction() -> None:
    unknown = neighbourhood_at(0.1, linear_part=math.nan, quadratic_part=math.nan)
    figure = neighbourhood_figure(difference_report(neighbourhood=(unknown,)))
    labels = set(figure.axes[0].get_legend_handles_labels()[1])
    assert labels == {"V(sigma) measured, ± 2 errors", "value part"}
    assert rasterize(figure).std() > 0


def test_each_subspace_has_a_panel() -> None:
    variances = tuple(neighbourhood_at(0.1, dimensions=d) for d in (None, 5))
    figure = neighbourhood_figure(difference_report(neighbourhood=variances))
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["perturbed: all parameters", "perturbed: 5 dimensions"]


def test_without_perturbations_there_is_no_figure() -> None:
    with pytest.raises(ValueError, match=r"got none \(failure: ValueError: no\)\. Ask for"):
        neighbourhood_figure(failed_difference())
