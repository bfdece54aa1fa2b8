"""Which figures go with a report."""

from __future__ import annotations

from lightning_hessian.show import loss_difference_figures
from tests.helpers.loss_difference_reports import difference_report, failed_difference


def test_the_course_is_drawn_of_at_least_two_reports_with_numbers() -> None:
    first, failed, second = difference_report(), failed_difference(5), difference_report(step=10)
    assert "history" not in loss_difference_figures([first])
    assert "history" not in loss_difference_figures([failed, first])
    assert loss_difference_figures([first, failed, second]).keys() == {"difference", "history"}
    assert loss_difference_figures([first, failed]) == {}
