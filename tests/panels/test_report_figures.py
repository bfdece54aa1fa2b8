"""Which figures go with a report."""

from __future__ import annotations

from lightning_hessian.show import loss_difference_figures, spectrum_figures
from tests.helpers.loss_difference_reports import (
    difference_report,
    failed_difference,
    neighbourhood_at,
)
from tests.helpers.reports import failed_at, report_at


def test_the_course_is_drawn_of_at_least_two_reports_with_numbers() -> None:
    first, failed, second = difference_report(), failed_difference(5), difference_report(step=10)
    assert "history" not in loss_difference_figures([first])
    assert "history" not in loss_difference_figures([failed, first])
    assert loss_difference_figures([first, failed, second]).keys() == {"difference", "history"}
    assert loss_difference_figures([first, failed]) == {}


def test_a_spectrum_has_its_course_too_also_without_a_density() -> None:
    assert spectrum_figures([report_at(0)]).keys() == {"spectrum"}
    assert spectrum_figures([report_at(0), report_at(1)]).keys() == {"spectrum", "history"}
    assert spectrum_figures([report_at(0), report_at(1, density=None)]).keys() == {"history"}
    assert spectrum_figures([report_at(0), failed_at(1)]) == {}


def test_each_space_perturbed_in_has_a_picture() -> None:
    balls = (neighbourhood_at(0.1), neighbourhood_at(0.1, dimensions=5))
    names = loss_difference_figures([difference_report(neighbourhood=balls)]).keys()
    assert names == {"difference", "neighbourhood", "neighbourhood_in_5"}
