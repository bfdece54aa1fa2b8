"""In a browser, the charts of the tab show the numbers of the reports."""

from __future__ import annotations

from typing import Any

import pytest

from examples.board import Board
from examples.browser import CARDS, Visit
from tests.helpers.tab import RATES, Training

Row = dict[str, Any]
DIGITS = 1e-5
"""Of six that an entry has, half a unit of the last."""
LAST = 12


def close(value: float) -> Any:
    return pytest.approx(value, rel=DIGITS, abs=1e-12)


def only(rows: list[Row], **wanted: Any) -> Row:
    """The row that says this, of which there is one."""
    found = [row for row in rows if all(row.get(name) == each for name, each in wanted.items())]
    assert len(found) == 1, (wanted, found)
    return found[0]


def test_every_chart_has_something_to_show(visit: Visit) -> None:
    assert [card for card in CARDS if not visit.rows(card)] == []
    assert visit.frame.locator(".nothing:visible").all_inner_texts() == []


def test_eigenvalues_stand_with_their_bounds(visit: Visit, trainings: list[Training]) -> None:
    rows = visit.rows("largest-eigenvalue")
    for training in trainings:
        for report in training.reports["hessian"]:
            at = {"run": training.name, "callback": "hessian", "step": report.step}
            largest = only(rows, quantity="largest eigenvalue", **at)
            value, bound = (
                float(each[0]) for each in (report.largest.values, report.largest.residual_bounds)
            )
            assert largest["value"] == close(value)
            # the numbers of an entry have six digits, and so have the ends
            assert largest["low"] == pytest.approx(value - bound, abs=DIGITS)
            assert largest["high"] == pytest.approx(value + bound, abs=DIGITS)
            least = only(rows, quantity="most negative eigenvalue", **at)
            assert least["value"] == close(float(report.smallest.values[0]))
            second = only(rows, quantity="eigenvalue 2", **at)
            assert second["value"] == close(float(report.largest.values[1]))


def test_the_edge_is_that_of_the_learning_rate(visit: Visit, trainings: list[Training]) -> None:
    rows = visit.rows("largest-eigenvalue")
    for training, rate in zip(trainings, RATES, strict=True):
        for report in training.reports["hessian"]:
            at = {"run": training.name, "callback": "hessian", "step": report.step}
            assert only(rows, quantity="edge of the optimiser", **at)["value"] == close(2 / rate)
            share = only(rows, quantity="share of the edge", **at)
            assert share["value"] == pytest.approx(
                float(report.largest.values[0]) * rate / 2, rel=2e-3
            )


def test_the_loss_beneath_is_the_one_that_was_logged(
    visit: Visit, trainings: list[Training], board: Board
) -> None:
    rows = visit.rows("largest-eigenvalue")
    for training in trainings:
        logged = board.get(
            "data/plugin/scalars/scalars",
            run=training.name,
            tag="train_loss",
        )
        shown = [row for row in rows if row["run"] == training.name and row["callback"] == ""]
        assert [(row["step"], row["value"]) for row in shown] == [
            (step, close(value)) for _, step, value in logged
        ]
        assert len(shown) == LAST


def test_the_trace_stands_with_its_interval(visit: Visit, trainings: list[Training]) -> None:
    rows = visit.rows("trace")
    for training in trainings:
        for report in training.reports["hessian"]:
            # one of each step, though CriticalPoint tells a trace too
            row = only(rows, run=training.name, step=report.step)
            low, high = report.trace.interval
            assert [row[name] for name in ("value", "low", "high")] == [
                close(each) for each in (report.trace.value, low, high)
            ]


def test_layers_have_their_own_traces_and_eigenvalues(
    visit: Visit, trainings: list[Training]
) -> None:
    rows = visit.rows("by-layer")
    for training in trainings:
        for block in training.reports["hessian"][-1].blocks:
            at = {"run": training.name, "layer": block.name, "step": LAST}
            assert only(rows, quantity="trace", **at)["value"] == close(block.trace.value)
            assert only(rows, quantity="eig_1", **at)["value"] == close(
                float(block.largest.values[0])
            )


def test_the_density_is_that_of_every_report(visit: Visit, trainings: list[Training]) -> None:
    rows = visit.rows("spectral-density")
    for training in trainings:
        for report in training.reports["hessian"]:
            shown = [
                (row["eigenvalue"], row["share"])
                for row in rows
                if (row["run"], row["callback"], row["step"])
                == (training.name, "hessian", report.step)
            ]
            wanted = zip(
                report.density.nodes.tolist(), report.density.weights.tolist(), strict=True
            )
            assert shown == [(close(node), close(weight)) for node, weight in wanted]


def test_the_kind_of_point_is_the_reports(visit: Visit, trainings: list[Training]) -> None:
    rows = visit.rows("kind-of-point")
    for training in trainings:
        for report in training.reports["critical_point"]:
            at = {"run": training.name, "step": report.step}
            norm = only(rows, quantity="gradient norm", **at)
            assert norm["value"] == close(report.gradient_norm)
            share = only(
                rows, quantity="share of negative eigenvalues", callback="critical_point", **at
            )
            index = next(each for each in report.indices if each.name == "relative_1e-3")
            assert [share[name] for name in ("value", "low", "high")] == [
                close(each) for each in (index.fraction, *index.bracket)
            ]


def test_the_loss_difference_is_the_curve_with_two_standard_errors(
    visit: Visit, trainings: list[Training]
) -> None:
    rows = visit.rows("loss-difference")
    for training in trainings:
        last = training.reports["loss_difference"][-1]
        curve = [row for row in rows if row["run"] == training.name and "k" in row]
        assert [row["k"] for row in curve] == last.differences.sample_sizes.tolist()
        assert [row["value"] for row in curve] == [
            close(each) for each in last.differences.mean_abs.tolist()
        ]
        errors = last.differences.mean_abs_standard_error.tolist()
        assert [row["high"] - row["value"] for row in curve] == [
            pytest.approx(2 * each, rel=1e-4, abs=1e-9) for each in errors
        ]
        for report in training.reports["loss_difference"]:
            (required,) = report.required_sample_sizes
            needed = only(rows, run=training.name, callback="loss_difference", step=report.step)
            assert (needed["value"], needed["low"], needed["high"]) == (
                required.size,
                required.lower,
                required.upper,
            )


def test_the_cost_is_counted(visit: Visit, trainings: list[Training]) -> None:
    rows = visit.rows("cost")
    for training in trainings:
        for callback, reports in training.reports.items():
            row = only(rows, run=training.name, callback=callback)
            assert row["reports"] == len(reports)
            assert row["products"] == sum(report.num_hvps for report in reports)
            assert row["samples"] == 26


def test_any_number_can_be_chosen(visit: Visit, trainings: list[Training]) -> None:
    visit.card("any-quantity").locator("select").select_option("parameter_norm")
    rows = visit.wait_for(
        lambda: [row for row in visit.rows("any-quantity") if row["quantity"] == "parameter_norm"],
        "rows of the choice",
    )
    for training in trainings:
        for report in training.reports["critical_point"]:
            row = only(rows, run=training.name, step=report.step)
            assert row["value"] == close(report.parameter_norm)
