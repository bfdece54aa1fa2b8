"""What a point is called follows from the numbers of its report, and is said with them."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch

from lightning_hessian import CriticalPointReport
from lightning_hessian.records import StabilityMargin
from lightning_hessian.show import scalars, table
from tests.helpers.critical_points import escape_at, index_counts, nearness, point_at
from tests.helpers.reports import eigenvalues_at


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, "not critical"),
        # 1 - 0.02 below -0.004 for certain
        ({"nearness": nearness(0.5, 0.04, 0.0)}, "saddle"),
        ({"nearness": nearness(0.5, 0.05, 0.0)}, "not critical"),
        ({"gradient_norm": 1e-9}, "saddle"),
        ({"gradient_norm": 1e-9, "smallest": eigenvalues_at([-0.003], [0.0])}, "minimum"),
        # perhaps negative is not negative
        ({"gradient_norm": 1e-9, "smallest": eigenvalues_at([-1.0], [0.997])}, "minimum"),
        ({"flatness": 1e-4}, "not critical"),
        ({"flatness": 1e-4, "nearness": nearness(1.0, 0.99, 0.95)}, "flat"),
        ({"flatness": 1e-2, "nearness": nearness(1.0, 0.99, 0.95)}, "not critical"),
        # the gradient vanishes: no direction to look along
        ({"gradient_norm": 0.0, "nearness": ()}, "saddle"),
    ],
)
def test_the_kind_follows_from_the_numbers(changes: dict[str, Any], kind: str) -> None:
    report = point_at(**changes)
    assert report.kind == kind
    assert scalars(report)["is_critical"] == float(kind in ("saddle", "minimum"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {},
            "Not a critical point: within 1 % of the weights' length the linearised gradient can "
            "fall to 0.45 of its length.",
        ),
        (
            {"nearness": nearness(0.5, 0.04, 0.0)},
            "Near a saddle: within 1 % of the weights' length the linearised gradient can fall to "
            "0.04 of its length; 0.1 to 0.3 of the eigenvalues are below -0.004.",
        ),
        (
            {"gradient_norm": 1e-9, "smallest": eigenvalues_at([0.1], [0.0])},
            "A minimum: |g| is 1e-09; no eigenvalue below -0.004 was found, at most 0.3 of all may "
            "be there.",
        ),
        (
            {"gradient_norm": 1e-9, "indices": index_counts(null=0.4)},
            "A saddle: |g| is 1e-09; 0.1 to 0.3 of the eigenvalues are below -0.004; degenerate, "
            "with 0.4 to 0.4 of them around zero.",
        ),
        (
            {"flatness": 1e-4, "nearness": nearness(1.0, 0.99, 0.95)},
            "Flat, and not critical: the gradient's norm is stationary (|H g| is 0.0001 of ||H|| "
            "|g|), but within 10 % of the weights' length the linearised gradient falls to 95% of "
            "its length only.",
        ),
    ],
)
def test_the_verdict_says_the_kind_with_its_numbers(changes: dict[str, Any], words: str) -> None:
    assert point_at(**changes).verdict == words


def test_a_report_without_numbers_has_no_verdict() -> None:
    assert CriticalPointReport(failure="no").verdict == ""


def test_a_report_is_the_same_after_json() -> None:
    report = point_at(3)
    again = CriticalPointReport.from_dict(json.loads(json.dumps(report.to_dict())), is_whole=True)
    assert again.to_dict() == report.to_dict()
    assert again.verdict == report.verdict


def test_the_prediction_is_a_polynomial_of_fourth_order() -> None:
    escape = escape_at(slope=-1.0, third=6.0)
    t = torch.tensor([0.0, 2.0], dtype=torch.float64)
    assert escape.predicted(t).tolist() == pytest.approx([0, -2 - 2 + 8 + 16 / 24])


def test_the_table_names_the_kind_and_what_is_left() -> None:
    heading, line = table(CriticalPointReport, [point_at(3)]).splitlines()
    assert "gradient left in 1 %" in heading
    assert "kind" in heading
    assert line.split()[:3] == ["3", "2.0000", "0.3"]
    assert "not critical" in line


@pytest.mark.parametrize(
    ("sharpness", "words"),
    [
        (1.0, "Stable: 1 of 2, a margin of 2x, for SGD."),
        (1.9, "At the edge of stability: 1.9 of 2, a margin of 1.1x, for SGD."),
        (
            4.0,
            "Beyond the edge of stability, by the linear model: 4 of 2, a margin of 0.5x, for SGD.",
        ),
        (0.0, "Stable: no curvature stands against the steps of SGD."),
        (-1.0, "Stable: no curvature stands against the steps of SGD."),
    ],
)
def test_a_margin_is_said_in_words(sharpness: float, words: str) -> None:
    margin = StabilityMargin(sharpness=sharpness, bound=0.1, threshold=2.0, optimizer="SGD")
    assert margin.verdict == words
    assert margin.margin == (2 / sharpness if sharpness > 0 else math.inf)


@pytest.mark.parametrize(
    ("interval", "open_words"),
    [
        ((0.9, 1.4), ""),
        ((0.4, 1.8), " Open for the whole training set, where it is 0.4 to 1.8."),
        ((0.4, 2.7), " Open for the whole training set, where it is 0.4 to 2.7."),
    ],
)
def test_a_margin_that_the_samples_leave_open_says_so(
    interval: tuple[float, float], open_words: str
) -> None:
    margin = StabilityMargin(
        sharpness=1.0, bound=0.1, threshold=2.0, interval=interval, optimizer="SGD"
    )
    assert margin.verdict == f"Stable: 1 of 2, a margin of 2x, for SGD.{open_words}"
