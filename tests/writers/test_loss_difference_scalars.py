"""The names under which the numbers of loss differences are logged."""

from __future__ import annotations

import math

import pytest

from lightning_hessian.records import LossDifferenceReport
from lightning_hessian.show import scalars
from tests.helpers.loss_difference_reports import (
    DERIVATIVES,
    HELD_OUT,
    difference_report,
    failed_difference,
    neighbourhood_at,
)


def _tags(report: LossDifferenceReport) -> dict[str, float]:
    return {f"d/{tag}": value for tag, value in scalars(report).items()}


def test_a_full_report_has_exactly_these_scalars() -> None:
    report = difference_report(
        thresholds=(0.1, 1e-5),
        held_out=HELD_OUT,
        neighbourhood=(neighbourhood_at(0.1), neighbourhood_at(0.5, dimensions=3)),
        **DERIVATIVES,
    )
    loose, tight = (report.required_sample_size(threshold) for threshold in (0.1, 1e-5))
    # reference values of the losses 0.1, 0.2, 0.4, 0.7, 2, 3; k = 5
    mean, mean_error = 0.19111111111, float(report.differences.mean_abs_standard_error[-1])
    spread = math.sqrt(1.37466666667)
    near, far = report.neighbourhood
    wanted = {
        "failed": 0,
        "qualified": 0,
        "num_parameters": 1000,
        "num_samples": 6,
        "seconds": 1.5,
        "overhead": 0.04,
        "num_skipped": 2,
        "loss": 16 / 15,
        "loss_standard_error": spread / math.sqrt(6),
        "num_hvps": 12,
        "difference_sample_size": 5,
        "mean_abs_difference": mean,
        "mean_abs_difference_standard_error": mean_error,
        "mean_abs_difference_lower": mean - 2 * mean_error,
        "mean_abs_difference_upper": mean + 2 * mean_error,
        "rms_difference": spread / math.sqrt(30),
        "rms_difference_standard_error": float(report.differences.rms_standard_error[-1]),
        "deviation": spread,
        "deviation_standard_error": report.spread.variance.standard_error / (2 * spread),
        "mean_absolute_deviation": 0.95555555556,
        "mean_absolute_deviation_standard_error": (
            report.spread.mean_absolute_deviation.standard_error
        ),
        "required_samples_0.1": loose.size,
        "required_samples_0.1_lower": loose.lower,
        "required_samples_0.1_upper": loose.upper,
        "required_samples_1e-05": tight.size,
        "required_samples_1e-05_lower": tight.lower,
        "required_samples_1e-05_upper": tight.upper,
        "held_out_loss": 1.5,
        "held_out_deviation": 1.5,
        "held_out_deviation_standard_error": 0.1,
        "held_out_mean_absolute_deviation": 1.0,
        "held_out_mean_absolute_deviation_standard_error": 0.1,
        "gap": 0.4,
        "gap_standard_error": 0.2,
        "gradient_norm": 0.5,
        "gradient_deviation": 2.0,
        "gradient_deviation_standard_error": 0.1,
        "hessian_norm": 10.0,
        "hessian_deviation": 30.0,
        "hessian_deviation_standard_error": 1.0,
        "neighbourhood_variance_0.1": near.variance,
        "neighbourhood_variance_0.1_standard_error": 0.01,
        "neighbourhood_variance_0.1_value_part": 1.0,
        "neighbourhood_variance_0.1_linear_part": 0.1,
        "neighbourhood_variance_0.1_quadratic_part": 0.01,
        "neighbourhood_variance_0.1_prediction": 1.11,
        "neighbourhood_variance_0.1_prediction_standard_error": 0.02,
        "neighbourhood_variance_0.5_in_3": far.variance,
        "neighbourhood_variance_0.5_in_3_standard_error": 0.01,
        "neighbourhood_variance_0.5_in_3_value_part": 1.0,
        "neighbourhood_variance_0.5_in_3_linear_part": 2.5,
        "neighbourhood_variance_0.5_in_3_quadratic_part": 6.25,
        "neighbourhood_variance_0.5_in_3_prediction": 9.75,
        "neighbourhood_variance_0.5_in_3_prediction_standard_error": 0.02,
    }
    tags = _tags(report)
    assert tags == pytest.approx({f"d/{tag}": value for tag, value in wanted.items()}, rel=1e-9)
    assert all(isinstance(value, float) for value in tags.values())


def test_a_failed_report_has_only_what_it_took() -> None:
    assert _tags(failed_difference()) == {"d/failed": 1.0, "d/seconds": 0.1, "d/num_skipped": 0.0}


def test_what_was_not_measured_is_left_out() -> None:
    tags = _tags(difference_report())
    for part in ("held_out", "gap", "gradient", "hessian", "neighbourhood", "required"):
        assert not [tag for tag in tags if part in tag]
    # all but the last seven rows of the kinds of the full report
    assert len(tags) == 21


def test_unknown_errors_leave_the_values() -> None:
    # of two losses the errors are unknown
    report = difference_report(difference_report().differences.path[:2])
    tags = _tags(report)
    assert {"d/mean_abs_difference", "d/deviation"} <= tags.keys()
    assert not [tag for tag in tags if "lower" in tag]
    assert all(math.isfinite(value) for value in tags.values())
