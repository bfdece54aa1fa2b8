"""Newton trajectories, of functions whose critical points are known."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_hessian.hvp import open_loss
from lightning_hessian.studies.newton_trajectory import (
    CORRECTIONS,
    NEAR,
    CurvePoint,
    Trajectory,
    advance,
    set_off,
    turned,
    zero_between,
)
from lightning_hessian.studies.searched_loss import SearchedLoss
from tests.helpers.saddles import Problem, Weights

Function = Callable[[Tensor], Tensor]


@contextmanager
def opened(values: list[float] | Tensor, function: Function) -> Iterator[SearchedLoss]:
    module = Weights(torch.as_tensor(values, dtype=torch.float64))

    def step(_batch: Any, _index: int) -> Tensor:
        return function(module.values)

    with open_loss(module, step, [None], dtype=torch.float64) as loss:
        yield SearchedLoss(loss, "none", lambda _: None)


def side(loss: SearchedLoss, curve: Trajectory, *, reach: float, length: float) -> list[Trajectory]:
    """The curve after each step that is taken, until it has ended or is out of reach."""
    taken = [curve]
    while curve.ended is None and float(curve.here.weights.norm()) < reach:
        curve = advance(loss, curve, length)
        if curve.distance > taken[-1].distance:
            taken.append(curve)
    return [*taken[:-1], curve]


def both_sides(
    values: list[float], function: Function, *, reach: float, index: int = 1, length: float = 1.0
) -> list[list[CurvePoint]]:
    with opened(values, function) as loss:
        first = set_off(loss, loss.origin, length, tolerance=1e-8, index=index)
        second = turned(loss, first, length)
        return [
            [each.here for each in side(loss, curve, reach=reach, length=length)]
            for curve in (first, second)
        ]


def zeros(points: list[CurvePoint]) -> list[Tensor]:
    found = (zero_between(one, other) for one, other in pairwise(points))
    return [zero for zero in found if zero is not None]


def wells(x: Tensor) -> Tensor:
    """Critical where each coordinate is -1, 0 or 1; the index is the number of zeros."""
    return (x.square() - 1).square().sum() / 4


def test_the_curve_of_a_quadratic_is_the_line_through_its_critical_point() -> None:
    generator = torch.Generator().manual_seed(0)
    half = torch.randn(5, 5, generator=generator, dtype=torch.float64)
    hessian, centre = half + half.T, torch.randn(5, generator=generator, dtype=torch.float64)
    start = torch.randn(5, generator=generator, dtype=torch.float64)

    def quadratic(x: Tensor) -> Tensor:
        return (x - centre) @ hessian @ (x - centre) / 2

    first, _ = both_sides(start.tolist(), quadratic, reach=10)
    line = (centre - start) / (centre - start).norm()
    for point in first:
        away = point.weights - start
        # a Hessian of products is exact to rounding, times its condition of about ten
        assert float((away - (away @ line) * line).norm()) < 1e-12
        assert float(point.tangent @ line) == pytest.approx(1, abs=1e-12)
    (zero,) = zeros(first)
    assert torch.allclose(zero, centre, rtol=0, atol=1e-12)


def test_critical_points_in_a_row_along_a_curve_differ_in_index_by_one() -> None:
    # g_i = s r_i with g_i = x_i^3 - x_i: between two zeros of s the first coordinate to reach a
    # fold of its cubic moves on to the next branch, and the others come back on theirs
    both = both_sides([0.3, -1.3, 0.8], wells, reach=4)
    passed = [zero.round() for zero in zeros(both[0])[::-1] + zeros(both[1])]
    assert len({tuple(each.tolist()) for each in passed}) >= 6
    for one, other in pairwise(passed):
        assert float((one - other).abs().sum()) == 1
        assert abs(int((one == 0).sum()) - int((other == 0).sum())) == 1


def test_the_gradient_keeps_its_direction_along_a_curve() -> None:
    for points in both_sides([0.3, -1.3, 0.8], wells, reach=3):
        direction = points[0].slope.gradient / points[0].slope.norm
        for before, point in pairwise(points):
            across = point.slope.gradient - point.scale * direction
            # a correction was below a thousandth of the step, which bends by up to 32 degrees, and
            # curvatures 3 x^2 - 1 are below 3 * 9
            step = float((point.weights - before.weights).norm()) / 0.85
            assert float(across.norm()) < 27 * NEAR * step
            assert float(point.tangent.norm()) == pytest.approx(1, abs=1e-12)


def test_a_point_where_the_norm_of_the_gradient_is_stationary_is_only_a_turning_point() -> None:
    def tilted(x: Tensor) -> Tensor:
        return x[0] ** 4 / 4 - x[0] ** 2 / 2 - x[0] / 2 + x[1] ** 2

    # its first derivative x^3 - x - 1/2 is -0.115 there, and largest among those of x below one
    both = both_sides([-1 / math.sqrt(3), 0.0], tilted, reach=3)
    found = [zero for points in both for zero in zeros(points)]
    assert len(found) == 1
    x, y = found[0].tolist()
    # its one real root, seen by a secant over a step of 0.3 at most
    assert x == pytest.approx(1.1915, abs=0.03)
    assert y == pytest.approx(0, abs=1e-9)


def test_a_curve_that_closes_is_seen_to_be_closed() -> None:
    epsilon = 0.01

    def ramp(x: Tensor) -> Tensor:
        bump = math.sqrt(math.pi) / 2 * torch.erf(x[0]) * torch.exp(-(x[1] ** 2))
        return x[1] + epsilon * bump

    with opened([0.3, 0.0], ramp) as loss:
        curve = set_off(loss, loss.origin, 1.0, tolerance=1e-8, index=0)
        points = side(loss, curve, reach=1.0, length=1.0)
    assert points[-1].ended == "closed"
    # the slope's direction is g_x / g_y = epsilon exp(-x^2 - y^2) to first order: circles. Chords
    # that turn by up to 32 degrees are shorter by up to 1.3 %, the last may go on by a step
    radii = [float(each.here.weights.norm()) for each in points]
    assert radii == pytest.approx([0.3] * len(radii), rel=0.02)
    around = points[-1].distance - float((points[-1].here.weights - loss.origin).norm())
    assert around == pytest.approx(2 * math.pi * 0.3, rel=0.03)


def test_where_there_is_no_loss_a_step_is_shorter_and_the_curve_ends() -> None:
    both = both_sides([2.0], lambda x: (x - torch.log(x)).sum(), reach=4)
    (zero,) = zeros(both[0])
    assert float(zero[0]) == pytest.approx(1, abs=0.03)
    with opened([2.0], lambda x: (x - torch.log(x)).sum()) as loss:
        curve = set_off(loss, loss.origin, 1.0, tolerance=1e-8, index=1)
        last = side(loss, curve, reach=4, length=1.0)[-1]
    assert last.ended == "lost"
    assert 0 < float(last.here.weights[0]) < 0.01


@pytest.mark.parametrize(
    ("start", "index", "first_ones"),
    [
        ((1.0, 1.0), 2, {(0.0, 1.0)}),
        ((0.0, 1.0), 0, {(1.0, 1.0), (-1.0, 1.0)}),
        ((0.0, 1.0), 2, {(0.0, 0.0)}),
    ],
)
def test_from_a_critical_point_it_leaves_for_one_whose_index_is_nearer(
    start: tuple[float, float], index: int, first_ones: set[tuple[float, float]]
) -> None:
    def uneven(x: Tensor) -> Tensor:
        # curvatures of 2 and 4 in the wells, -1 and -2 between them
        return (x[0] ** 2 - 1) ** 2 / 4 + (x[1] ** 2 - 1) ** 2 / 2

    both = both_sides(list(start), uneven, reach=3, index=index)
    first = [zeros(points)[0].round() for points in both if zeros(points)]
    assert first_ones <= {tuple((zero + 0.0).tolist()) for zero in first}
    # the curve is caught in no line on which one coordinate stands still
    passed = [zero.round() for points in both for zero in zeros(points)]
    assert len({float(zero[0]) for zero in passed}) == len({float(z[1]) for z in passed}) == 3


def test_a_step_costs_eight_gradients_at_most_and_a_hessian_after_two_refusals() -> None:
    problem = Problem.of(0, size=3, samples=9, decay=0.01)
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(18, generator=generator, dtype=torch.float64) / 2
    with problem.open(start) as inner:
        loss = SearchedLoss(inner, problem.decay, lambda _: None)
        curve = set_off(loss, start, 1.0, tolerance=1e-8, index=1)
        assert (loss.num_products, loss.num_gradients) == (18, 1)
        refusals = 0
        for _ in range(100):
            products, gradients, before = loss.num_products, loss.num_gradients, curve
            curve = advance(loss, curve, 1.0)
            is_taken = curve.distance > before.distance
            refusals = 0 if is_taken else refusals + 1
            is_anew = not is_taken and refusals % 2 == 0
            assert loss.num_products - products == 18 * is_anew
            assert 1 <= loss.num_gradients - gradients <= CORRECTIONS + is_anew
            if is_anew:
                _, hessian = problem.derivatives(curve.here.weights, 3)
                assert torch.allclose(curve.here.hessian, hessian, rtol=0, atol=1e-12)
                assert curve.step < before.step
    # on a curve that bends both happen
    assert curve.distance > 0
    assert loss.num_products > 18


def test_a_curve_that_was_saved_goes_on_to_the_same_bits() -> None:
    with opened([0.3, -1.3, 0.8], wells) as loss:
        curve = set_off(loss, loss.origin, 1.0, tolerance=1e-8, index=1)
        for _ in range(10):
            curve = advance(loss, curve, 1.0)
        buffer = io.BytesIO()
        torch.save(asdict(curve), buffer)
        buffer.seek(0)
        again = Trajectory.from_dict(torch.load(buffer, weights_only=True))
        for _ in range(20):
            curve, again = advance(loss, curve, 1.0), advance(loss, again, 1.0)
    assert torch.equal(again.here.weights, curve.here.weights)
    assert torch.equal(again.here.hessian, curve.here.hessian)
    assert (again.here.scale, again.step) == (curve.here.scale, curve.step)
