"""The figure over training: steps, error bars, and failed reports left out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes

from lightning_hessian.records import BatchSharpness, Eigenvalues, Estimate, StabilityMargin
from lightning_hessian.show import history_figure, rasterize
from tests.helpers.reports import eigenvalues_at, failed_at, report_at, trace_at


def panels(reports: Any) -> list[Axes]:
    return list(history_figure(reports).axes)


def bars(axes: Axes) -> list[tuple[list[float], list[float], list[float]]]:
    """Steps, values and half-lengths of each curve with error bars."""
    found = []
    for container in axes.containers:
        data, _, (segments,) = container
        lengths = [np.ptp(segment[:, 1]) / 2 for segment in segments.get_segments()]
        found.append((list(data.get_xdata()), list(data.get_ydata()), lengths))
    return found


def test_each_eigenvalue_is_a_curve_with_its_bound() -> None:
    later = eigenvalues_at([5.0, 2.5], [0.01, 0.5])
    reports = [report_at(0), failed_at(10), report_at(20, largest=later)]
    largest, second, smallest = bars(panels(reports)[0])
    assert largest[0] == [0, 20]
    assert largest[1] == [4.0, 5.0]
    assert second[1] == [2.0, 2.5]
    assert smallest[1] == [-1.0, -1.0]
    np.testing.assert_allclose(largest[2], [0.01, 0.01], rtol=1e-6)
    np.testing.assert_allclose(second[2], [0.5, 0.5], rtol=1e-6)


def test_trace_is_drawn_with_its_interval_and_loss_beside_it() -> None:
    _, trace, loss = panels(
        [report_at(0), report_at(5, trace=trace_at(14.0), loss=0.5), failed_at(9)]
    )
    assert list(trace.lines[0].get_xdata()) == [0, 5]
    assert list(trace.lines[0].get_ydata()) == [12.0, 14.0]
    (band,) = trace.collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (11.0, 13.0)
    assert list(loss.lines[0].get_ydata()) == [0.7, 0.5]


def test_what_was_not_measured_leaves_an_empty_panel() -> None:
    none = Eigenvalues()
    report = report_at(largest=none, smallest=none, trace=None, density=None)
    eigenvalues, _, loss = panels([report, report_at(3, largest=none)])
    assert bars(eigenvalues) == []
    assert list(loss.lines[0].get_xdata()) == [0, 3]
    assert rasterize(history_figure([report])).std() > 0


def test_labels_and_title() -> None:
    figure = history_figure([report_at(0), report_at(1)])
    assert [axes.get_xlabel() for axes in figure.axes] == ["step"] * 3
    assert [axes.get_title() for axes in figure.axes] == [
        "largest and smallest eigenvalues",
        "trace, 95 % interval",
        "loss on the frozen samples",
    ]
    assert figure.get_suptitle().startswith("Hessian of the training loss: 1,000 parameters, all")


@pytest.mark.parametrize(
    ("reports", "reason"),
    [
        ([], "must hold at least one without failure, got an empty list"),
        ([failed_at(), failed_at(1)], "got 2 failed ones, the last by: ValueError: no"),
    ],
)
def test_without_a_good_report_there_is_no_figure(reports: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        history_figure(reports)


def test_batch_sharpness_is_drawn_with_its_errors_where_it_was_measured() -> None:
    found = BatchSharpness(
        mean_of_ratios=Estimate(value=3.0, standard_error=0.25),
        ratio_of_means=Estimate(value=3.5, standard_error=0.5),
    )
    margin = StabilityMargin(sharpness=1.0, bound=0.0, threshold=2.0, largest_eigenvalue=6.0)
    reports = [report_at(0), report_at(5, batch_sharpness=found, edge=margin)]
    axes = panels(reports)[0]
    means, ratios = bars(axes)[-2:]
    assert (means[:2], ratios[:2]) == (([5], [3.0]), ([5], [3.5]))
    np.testing.assert_allclose((means[2], ratios[2]), ([0.25], [0.5]), rtol=1e-6)
    legend = axes.get_legend()
    assert legend is not None
    names = {text.get_text() for text in legend.get_texts()}
    assert names == {"optimiser's edge", "batch sharpness", "as a ratio of means"}
    assert panels([report_at(0)])[0].get_legend() is None
