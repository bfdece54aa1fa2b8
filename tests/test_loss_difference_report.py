"""What a report of loss differences says in words, and deviations with their errors."""

from __future__ import annotations

import math

import pytest

from lightning_hessian.statistics import root_with_error
from tests.helpers.loss_difference_reports import HELD_OUT, difference_report


def test_each_threshold_has_its_sentence() -> None:
    report = difference_report(thresholds=(0.5, 0.01))
    assert report.sentences == (report.sentence(0.5), report.sentence(0.01))


def test_without_thresholds_the_difference_alone_is_told() -> None:
    report = difference_report()
    (sentence,) = report.sentences
    # MAD / 7 of the reference losses
    assert sentence.startswith("with 6 samples one more sample moves the loss by 1.4e-01 +- ")
    assert report.sentence(0.01).startswith(f"{sentence}; below 0.01 from about ")


def test_held_out_losses_are_the_ones_of_a_further_sample() -> None:
    (sentence,) = difference_report(held_out=HELD_OUT).sentences
    assert sentence == "with 6 samples one more sample moves the loss by 1.4e-01 +- 0.1e-01"


@pytest.mark.parametrize(
    ("variance", "error", "wanted"),
    [
        (4.0, 0.4, (2.0, 0.1)),  # d sqrt(x) = dx / (2 sqrt(x))
        (4.0, math.nan, (2.0, math.nan)),
        (0.0, 0.0, (0.0, 0.0)),
        (0.0, 0.1, (0.0, math.nan)),
        (math.nan, math.nan, (math.nan, math.nan)),
    ],
)
def test_a_deviation_has_the_error_of_its_variance(
    variance: float, error: float, wanted: tuple[float, float]
) -> None:
    assert root_with_error(variance, error) == pytest.approx(wanted, rel=1e-15, nan_ok=True)
