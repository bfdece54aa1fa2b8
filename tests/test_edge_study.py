"""What the study of the edge calls stable, hovering and diverged, against closed forms."""

from __future__ import annotations

import math
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import nn

from examples.data import FewDigits
from examples.edge_figures import edge_figure, minibatch_figure
from examples.edge_minibatches import MinibatchCourse, minibatch_course, minibatch_table
from examples.edge_runs import Course, Ending, ending, first_margin, largest_eigenvalue
from examples.networks import TanhRegressor


@pytest.mark.parametrize(
    ("sharpness", "kind"),
    [(0.0, "stable"), (1.6, "stable"), (1.7, "at the edge"), (2.4, "at the edge"), (2.6, "beyond")],
)
def test_kinds_follow_the_margin_of_two(sharpness: float, kind: str) -> None:
    found = Ending(rate=1.0, seed=0, first_loss=1.0, loss=0.5, sharpness=sharpness)
    assert found.kind == kind


@pytest.mark.parametrize("loss", [1.0, math.inf, math.nan])
def test_a_loss_that_is_not_below_the_first_has_diverged(loss: float) -> None:
    found = Ending(rate=1.0, seed=0, first_loss=1.0, loss=loss, sharpness=math.nan)
    assert found.kind == "diverged"


def linear(module: TanhRegressor) -> TanhRegressor:
    """The same with one linear layer, whose loss is a quadratic function."""
    module.network = nn.Sequential(nn.Linear(64, 10, bias=False))
    return module


def test_the_largest_eigenvalue_of_a_linear_layer_is_that_of_its_inputs() -> None:
    images, labels = FewDigits(50).batch()
    found = largest_eigenvalue(linear(TanhRegressor()), (images, labels))
    # of the mean over 50 images and ten outputs
    exact = 2 / 10 * torch.linalg.eigvalsh(images.T.double() @ images.double() / 50)[-1]
    assert found == pytest.approx(float(exact), rel=1e-3)


@pytest.mark.parametrize(("times", "kind"), [(0.9, "at the edge"), (1.1, "diverged")])
def test_a_quadratic_diverges_at_two_over_its_largest_eigenvalue(
    times: float, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "examples.edge_runs.TanhRegressor", lambda *options: linear(TanhRegressor(*options))
    )
    batch = FewDigits(50).batch()
    limit = first_margin(batch, seed=0)
    found = ending(times * limit, batch, seed=0, steps=200)
    assert found.kind == kind
    if kind != "diverged":
        assert found.sharpness == pytest.approx(2 * times, rel=1e-3)


def test_the_weights_are_those_of_the_seed_and_the_generator_is_left() -> None:
    batch = FewDigits(20).batch()
    before = torch.get_rng_state()
    losses = [ending(0.1, batch, seed=seed, steps=2).loss for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), before)
    assert losses[0] == losses[1] != losses[2]


def test_the_figure_shows_sharpness_over_its_threshold() -> None:
    course = Course(
        optimizer="Adam",
        rate=0.02,
        steps=[0, 20, 40, 60],
        losses=[1.0, 0.5, 0.4, 0.3],
        sharpness=[1.9, 3.8, 5.7, 3.8],
        threshold=3.8,
        verdict="",
    )
    assert course.second_half == pytest.approx((1.0, 1.5))
    alive = Ending(rate=1.0, seed=0, first_loss=1.0, loss=0.5, sharpness=1.9)
    dead = Ending(rate=4.0, seed=0, first_loss=1.0, loss=math.inf, sharpness=math.nan)
    sharp, losses, scan = edge_figure([course], [alive, dead], [1.1]).axes
    assert sharp.lines[0].get_ydata() == pytest.approx([0.5, 1.0, 1.5, 1.0])
    assert losses.lines[0].get_ydata() == pytest.approx([1.0, 0.5, 0.4, 0.3])
    assert (scan.lines[0].get_xdata(), scan.lines[1].get_xdata()) == ([1.0], [4.0])


def minibatches(**changes: Any) -> MinibatchCourse:
    fields: dict[str, Any] = {
        "batch_size": 8,
        "momentum": 0.9,
        "rate": 0.1,
        "steps": [0, 10, 20, 30],
        "losses": [1.0, 0.5, 0.25, 0.125],
        "ratios": [0.5, 0.0625, 0.125, 0.09375],
        "errors": [0.01, 0.02, 0.03, 0.04],
        "means": [0.75, 0.5, 0.25, 0.375],
        "largest": [1.0, 0.75, 0.5, 0.25],
    }
    return MinibatchCourse(**(fields | changes))


def test_curvatures_by_minibatches_are_in_units_of_two_over_the_rate() -> None:
    course = minibatch_course(3, 0.5, samples=30, steps=2, every=1, seed=0)
    assert (course.batch_size, course.rate, course.steps) == (10, 0.5, [0, 1, 2])
    with torch.random.fork_rng(devices=[]):
        pl.seed_everything(0, verbose=False)
        module = TanhRegressor("SGD", 0.5)
    found = largest_eigenvalue(module, FewDigits(30).batch())
    # each to a thousandth or a hundredth of the range
    assert course.largest[0] == pytest.approx(found * 0.5 / 2, rel=2e-2)
    # no curvature along a direction is beyond the largest of a batch, three of which make up all
    assert 0 < course.ratios[0] < 3 * course.largest[0]


def test_the_table_of_minibatches_has_lines_and_spans_of_the_second_half() -> None:
    heading, line = minibatch_table([minibatches()]).splitlines()
    assert "in 2 / lr" in heading
    assert line.split()[:3] == ["8", "0.9", "0.1"]
    assert "0.1 and 1.9   0.1250  0.094 to 0.125, 0.250 to 0.375, 0.250 to 0.500" in line
    assert minibatch_table([minibatches(momentum=0.0, rate=1.0)]).splitlines()[1].split()[3] == "1"


def test_the_figure_of_minibatches_has_a_panel_of_each_momentum_and_its_line() -> None:
    figure = minibatch_figure([minibatches(), minibatches(momentum=0.0, batch_size=40)])
    plain, heavy = figure.axes
    for axes, line in ((plain, 1.0), (heavy, 0.1)):
        ratios, means, largest, mark = axes.lines
        assert list(ratios.get_ydata()) == [0.5, 0.0625, 0.125, 0.09375]
        assert list(means.get_ydata()) == [0.75, 0.5, 0.25, 0.375]
        assert list(largest.get_ydata()) == [1.0, 0.75, 0.5, 0.25]
        assert mark.get_ydata()[0] == pytest.approx(line)
