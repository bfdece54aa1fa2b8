"""The surfaces: levels that show the weights' surroundings, colours about zero, holes as such."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.contour import QuadContourSet

from lightning_hessian.records import LossSurface
from lightning_hessian.show import rasterize, surface_figure
from tests.helpers.loss_difference_reports import bowl


def contours(surface: LossSurface) -> list[Any]:
    """Of loss, difference, root mean square."""
    axes = surface_figure(surface).axes[:3]
    return [c for a in axes for c in a.collections if isinstance(c, QuadContourSet)]


def steep(surface: LossSurface) -> LossSurface:
    """The same, from 1 to 10^7."""
    growth = surface.loss.exp()
    return bowl(
        loss=growth,
        difference=surface.difference * growth,
        rms_difference=surface.rms_difference * growth,
    )


def test_levels_run_from_the_lowest_to_the_highest_value() -> None:
    surface = bowl()
    loss, difference, rms = contours(surface)
    np.testing.assert_allclose(loss.levels, np.linspace(0.1, 17.1, 17), rtol=1e-12)
    np.testing.assert_allclose(rms.levels, np.linspace(0.002, 0.012, 17), rtol=1e-12)
    np.testing.assert_allclose(difference.levels[[0, -1]], [-0.004, 0.004], rtol=1e-12)


@pytest.mark.parametrize("surface", [bowl(), steep(bowl())], ids=["even", "steep"])
def test_the_difference_is_coloured_symmetrically_about_zero(surface: LossSurface) -> None:
    _, difference, _ = contours(surface)
    np.testing.assert_allclose(difference.levels, -difference.levels[::-1], rtol=1e-12)
    assert difference.levels[-1] == float(surface.difference.abs().max())
    below, above = (difference.cmap(difference.norm(sign * 1e9)) for sign in (-1, 1))
    assert below[2] > below[0]  # blue
    assert above[0] > above[2]  # red


def test_a_few_high_values_leave_levels_to_the_rest() -> None:
    surface = steep(bowl())
    for values, found in zip(
        (surface.loss, surface.difference.abs(), surface.rms_difference),
        contours(surface),
        strict=True,
    ):
        # between the lowest level and the next lies a tenth of the points, not nearly all
        levels = found.levels[found.levels > 0]
        counts = np.histogram(values.numpy(), levels)[0]
        assert counts.max() < values.numel() / 3
        assert np.all(np.diff(found.levels) > 0)


def test_the_weights_are_marked_and_the_titles_say_what() -> None:
    figure = surface_figure(bowl())
    for axes in figure.axes[:3]:
        (cross,) = [line for line in axes.lines if line.get_marker() == "+"]
        assert (list(cross.get_xdata()), list(cross.get_ydata())) == ([0], [0])
        np.testing.assert_allclose((axes.get_xlim(), axes.get_ylim()), ((-1, 1), (-2, 2)))
    assert [axes.get_title() for axes in figure.axes[:3]] == [
        "mean loss of all samples",
        "L(k + 1) - L(k) of one order, k = 500",
        "root mean square over orders, k = 500",
    ]
    assert figure.get_suptitle().endswith("u, v: eigenvectors of the two largest eigenvalues")


def test_rows_of_the_surface_are_along_v() -> None:
    surface = bowl()
    (loss, *_) = contours(surface)
    # the lowest band is the bowl's bottom, twice as wide along u
    ends = np.ptp(loss.get_paths()[0].vertices, axis=0)
    assert ends[0] == pytest.approx(2 * ends[1], rel=0.1)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_holes_are_hatched_and_not_drawn(value: float) -> None:
    surface = bowl()
    surface.loss[:4, :4] = value
    figure = surface_figure(surface)
    axes = figure.axes[0]
    assert axes.patch.get_hatch() == "///"
    (text,) = axes.get_legend().get_texts()
    assert text.get_text() == "no finite value"
    assert figure.axes[1].get_legend() is None
    (loss, *_) = contours(surface)
    assert math.isfinite(loss.levels[-1])
    corner = (-0.95, -1.9)
    assert not any(path.contains_point(corner) for path in loss.get_paths() if len(path))
    assert rasterize(figure).std() > 0


def test_one_value_everywhere_is_said() -> None:
    zeros = torch.zeros(23, 21, dtype=torch.float64)
    figure = surface_figure(bowl(loss=zeros + 0.5, difference=zeros, rms_difference=zeros))
    # no scale of colours beside
    assert len(figure.axes) == 3
    texts = [axes.texts[0].get_text() for axes in figure.axes]
    assert texts == ["0.5 everywhere", "0 everywhere", "0 everywhere"]
    assert rasterize(figure).std() > 0


def test_a_plane_without_any_finite_value_is_drawn_as_one_hole() -> None:
    nothing = torch.full((23, 21), math.nan, dtype=torch.float64)
    surface = bowl(loss=nothing, difference=nothing, rms_difference=nothing)
    assert contours(surface) == []
    assert rasterize(surface_figure(surface)).std() > 0


def test_a_line_is_no_surface() -> None:
    with pytest.raises(ValueError, match=r"at least 2 points along each direction, got 1 by 3"):
        surface_figure(bowl(1))
