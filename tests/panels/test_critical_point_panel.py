"""The figures of a point show the numbers of its reports."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lightning_hessian.show import (
    critical_point_figures,
    critical_point_history_figure,
    escape_figure,
)
from tests.helpers.critical_points import escape_at, nearness, point_at


def test_the_way_down_is_drawn_as_it_is_and_as_it_was_foreseen() -> None:
    report = point_at(7)
    (axes,) = escape_figure(report).axes
    lines = {line.get_label(): line for line in axes.lines}
    escape = report.escape
    assert escape is not None
    assert torch.tensor(lines["loss"].get_xydata()).equal(
        torch.stack([escape.distances, escape.losses], dim=1)
    )
    foreseen = torch.tensor(lines["fourth order"].get_xydata())
    torch.testing.assert_close(
        foreseen[:, 1], 2 - foreseen[:, 0] ** 2 / 2 + foreseen[:, 0] ** 4 / 24
    )
    # the well is seen, whatever the loss does further out
    low, high = axes.get_ylim()
    assert low < float(escape.losses.min()) < high < 5


def test_the_course_shows_what_is_left_of_the_gradient_and_the_brackets() -> None:
    reports = [point_at(0), point_at(5, nearness=nearness(0.8, 0.2, 0.01), gradient_norm=0.1)]
    left, norm, index = critical_point_history_figure(reports).axes
    assert [list(line.get_ydata()) for line in left.lines] == [[0.9, 0.8], [0.45, 0.2], [0.1, 0.01]]
    assert list(norm.lines[0].get_xydata().flatten()) == [0, 0.3, 5, 0.1]
    (bars,) = index.containers
    assert bars.has_yerr
    assert index.get_title() == "share of negative eigenvalues, bracket"


def test_a_count_of_all_negative_eigenvalues_is_drawn_as_a_point() -> None:
    wide = point_at(0)
    count = replace(wide.indices[0], fraction=0.25, bracket=(0.25, 0.25))
    reports = [wide, point_at(5, indices=(count, *wide.indices[1:]))]
    index = critical_point_history_figure(reports).axes[2]
    (points,) = [line for line in index.lines if line.get_marker() == "."]
    assert points.get_xydata().tolist() == [[5, 0.25]]


def test_a_point_without_a_gradient_has_a_course_too() -> None:
    reports = [point_at(0, nearness=(), gradient_norm=0.0), point_at(1)]
    left = critical_point_history_figure(reports).axes[0]
    assert [list(line.get_ydata()) for line in left.lines] == [[0, 0.9], [0, 0.45], [0, 0.1]]


def test_a_report_without_a_way_down_has_no_figure_of_it() -> None:
    with pytest.raises(ValueError, match="`report` must hold an `escape`, got one without"):
        escape_figure(point_at(escape=None))
    assert set(critical_point_figures([point_at()])) == {"escape", "spectrum"}
    few = point_at(1, escape=None, density=None)
    assert set(critical_point_figures([point_at(), few])) == {"history"}
    assert critical_point_figures([point_at(), point_at(1, failure="no")]) == {}


def test_losses_that_are_not_finite_do_not_spoil_the_axis() -> None:
    losses = torch.tensor([torch.nan, 1.5, 2.0, 1.5, 0.7, 0.8], dtype=torch.float64)
    (axes,) = escape_figure(point_at(escape=escape_at(losses=losses))).axes
    low, high = axes.get_ylim()
    assert low < 0.7 < 2 < high < 5
