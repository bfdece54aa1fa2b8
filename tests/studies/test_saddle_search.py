"""Searches for saddles: what a trajectory finds where eigenvectors lead nowhere."""

from __future__ import annotations

import io
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_hessian.studies import FoundPoint, SearchState
from lightning_hessian.studies.levenberg_marquardt import levenberg_marquardt
from lightning_hessian.studies.searched_loss import Quadratic, Slope
from tests.helpers.saddles import Problem
from tests.studies.test_search import PROBLEM, found, of_scalars, random_weights, saddle

SIXES = Problem.of(3, size=6, samples=24, decay=0.003)
"""Of 72 parameters."""
METHODS = ["eigenvector following", "Levenberg-Marquardt", "Newton trajectory"]


def is_critical(point: FoundPoint, index: int, problem: Problem = PROBLEM) -> bool:
    """By derivatives that are not the search's."""
    gradient, hessian = problem.derivatives(point.weights, problem.size)
    values = torch.linalg.eigvalsh(hessian)
    return float(gradient.norm()) < 1e-8 and int((values < -1e-6 * values[-1]).sum()) == index


def stored(state: SearchState) -> SearchState:
    """Written and read."""
    file = io.BytesIO()
    torch.save(state.to_dict(), file)
    file.seek(0)
    return SearchState.from_dict(torch.load(file, weights_only=True))


def valley(x: Tensor, y: Tensor) -> Tensor:
    """A minimum at (1, 0), a saddle at (-1, 0); up along the lowest curvature it has no end."""
    return x**3 / 3 - x + 2 * y**2


def wells(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """A maximum at zero, minima where each coordinate is 1 or -1."""
    return ((x**2 - 1) ** 2 + 1.5 * (y**2 - 1) ** 2 + 2 * (z**2 - 1) ** 2) / 4


def test_where_eigenvectors_lead_away_the_saddle_is_found_behind_the_minimum() -> None:
    point = of_scalars([5.0, 0.5], valley, 1)
    report = point.report
    # its curvature 2 x is positive from 5 on upwards
    assert [share.name for share in report.shares] == METHODS
    assert report.is_target
    # a gradient of 1e-8 over a curvature of two
    assert point.weights.tolist() == pytest.approx([-1, 0], abs=1e-8)
    ((index, loss),) = [(each.index, each.loss) for each in report.passed]
    assert (index, loss) == (0, pytest.approx(-2 / 3, abs=1e-12))
    assert "Found of other indices: 1, of index 0." in report.verdict


def test_where_there_is_no_critical_point_the_curve_escapes_to_both_sides() -> None:
    # the first derivative is 1 + x^2
    report = of_scalars([1.0, 0.5], lambda x, y: x**3 / 3 + x + y**2, 1).report
    assert report.outcome == "escaped"
    assert report.method == "Newton trajectory"
    assert report.norm > 10 * report.start_norm
    assert report.passed == ()
    assert report.verdict.startswith("Escaped to both sides: the weights are 1")


def test_along_a_curve_through_wells_the_index_climbs_from_a_minimum_to_the_maximum() -> None:
    point = of_scalars([1.0, 1.0, 1.0], wells, 3)
    assert point.report.is_target
    assert point.weights.tolist() == pytest.approx([0, 0, 0], abs=1e-8)
    # each coordinate at zero adds the height of its well, and one to the index
    indices = [each.index for each in point.report.passed]
    assert set(indices) == {0, 1, 2}
    # those of other signs are told once
    assert len({(each.index, round(each.loss, 9)) for each in point.report.passed}) == len(indices)
    heights = {0: [0.0], 1: [0.25, 0.375, 0.5], 2: [0.625, 0.75, 0.875]}
    for each in point.report.passed:
        assert min(abs(each.loss - height) for height in heights[each.index]) < 1e-12


def test_a_trajectory_from_where_the_gradient_is_small_finds_what_eigenvectors_did_not() -> None:
    point = found(random_weights(3), 5)
    report = point.report
    assert report.is_target
    assert is_critical(point, 5)
    assert report.method == "Newton trajectory"
    assert ", by a Newton trajectory. A saddle" in report.verdict
    assert report.course[-1].gradient_norm < 1e-8
    # the next one along the curve
    assert [each.index for each in report.passed] == [6]
    # all but the reports of both points
    assert sum(share.num_hvps for share in report.shares) == report.num_hvps - 18
    assert sum(share.num_gradients for share in report.shares) < report.num_gradients


def test_a_point_of_another_index_is_told_as_such_and_is_the_nearest_of_those_passed() -> None:
    point = found(random_weights(3), 7, max_hvps=4000)
    report = point.report
    assert report.outcome == "converged"
    assert not report.is_target
    indices = [each.index for each in report.passed]
    assert len(indices) >= 3
    # each found from the one before along one curve, which no symmetry holds
    assert all(abs(one - other) == 1 for one, other in pairwise(indices))
    nearest = min(indices, key=lambda index: abs(index - 7))
    assert report.index == (nearest, nearest)
    assert is_critical(point, nearest)
    assert "It is not what was looked for, index 7." in report.verdict
    # its state is where the search stands, and not that point
    assert not torch.equal(point.state.weights, point.weights)
    assert report.distance == pytest.approx(float((point.weights - random_weights(3)).norm()))


def test_a_curve_that_is_back_at_its_origin_ends_the_search() -> None:
    report = found(random_weights(10), 7).report
    assert report.outcome == "closed"
    assert not report.is_target
    assert "gradients along a Newton trajectory the curve was back where it was set off" in (
        report.verdict
    )


def test_a_search_that_begins_on_a_saddle_goes_on_to_the_index_asked_for() -> None:
    weights, index = saddle(PROBLEM, 2)
    for wanted in (index - 1, index + 1):
        point = found(weights, wanted)
        assert point.report.is_target
        assert is_critical(point, wanted)
        assert [each.index for each in point.report.passed] == [index]


def test_a_search_in_parts_comes_to_the_same_bits_within_each_budget() -> None:
    whole = found(random_weights(8), 5)
    assert whole.report.is_target
    assert [share.name for share in whole.report.shares] == METHODS
    part, kinds, spent = found(random_weights(8), 5, max_hvps=200), set(), 0
    while not part.report.is_target:
        assert part.report.num_hvps - spent <= 200
        spent = part.report.num_hvps
        assert part.state.turn is not None
        kinds.add(part.state.turn.kind)
        part = found(random_weights(8), 5, max_hvps=200, state=stored(part.state))
    # it was left in turns of each kind
    assert kinds >= {"following", "descending", "tracing"}
    assert torch.equal(part.weights, whole.weights)
    assert [each.loss for each in part.report.course] == [each.loss for each in whole.report.course]
    assert [each.index for each in part.report.passed] == [
        each.index for each in whole.report.passed
    ]


def test_from_each_state_that_is_told_on_a_curve_it_goes_on_to_the_same_bits() -> None:
    told: list[SearchState] = []
    whole = of_scalars([1.0, 1.0, 1.0], wells, 3, on_step=told.append)
    assert whole.report.is_target
    kinds = [state.turn.kind for state in told if state.turn is not None]
    # before a zero, at it, and behind it
    assert {"tracing", "polishing", "following"} <= set(kinds)
    at_zeros = [place for place, kind in enumerate(kinds) if kind == "polishing"]
    for place in sorted({*range(0, len(told), len(told) // 4), *at_zeros[:3]}):
        rest = of_scalars([1.0, 1.0, 1.0], wells, 3, state=stored(told[place]))
        assert torch.equal(rest.weights, whole.weights)
        assert len(rest.report.passed) == len(whole.report.passed)


def test_going_on_with_a_point_that_was_found_its_second_look_is_within_the_budget() -> None:
    first = found(random_weights(3), 7, max_hvps=3000)
    assert [each.index for each in first.report.passed]
    second = found(random_weights(3), 7, max_hvps=100, state=first.state)
    assert second.report.num_hvps - first.report.num_hvps <= 100
    assert second.report.index == first.report.index
    with pytest.raises(ValueError, match=r"`max_hvps` must be at least 54, a step by .* got 53"):
        found(random_weights(3), 7, max_hvps=53, state=first.state)


def test_gradients_along_a_trajectory_count_as_products() -> None:
    report = found(random_weights(10), 7, max_hvps=800).report
    assert report.outcome == "budget spent"
    assert report.method == "Newton trajectory"
    along = sum(each.num_gradients for each in report.shares if each.name == "Newton trajectory")
    assert f"and {along:,} gradients along a Newton trajectory, at |g| of" in report.verdict
    # up to what a further step may cost, and lines are written for each 18 units
    assert 800 - 2 * (18 + 8) - 18 < report.num_hvps + along <= 800


def test_an_interrupt_on_a_curve_keeps_it_and_goes_on_to_the_same_bits() -> None:
    evaluations, on_curve = [0], []

    def search(stop: int, **options: Any) -> FoundPoint:
        evaluations[0] = 0

        def function(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
            evaluations[0] += 1
            if evaluations[0] == stop:
                raise KeyboardInterrupt
            return wells(x, y, z)

        return of_scalars([1.0, 1.0, 1.0], function, 3, **options)

    def note(state: SearchState) -> None:
        if state.turn is not None and state.turn.kind == "tracing":
            on_curve.append(evaluations[0])

    whole = search(0, on_step=note)
    assert whole.report.is_target
    stopped = search(on_curve[len(on_curve) // 2] + 2)
    assert stopped.report.outcome == "interrupted"
    assert stopped.report.point is None
    assert stopped.state.turn is not None
    assert stopped.state.turn.kind == "tracing"
    rest = search(0, state=stored(stopped.state))
    assert torch.equal(rest.weights, whole.weights)


def test_a_step_down_the_gradients_norm_is_the_shortest_residual_within_its_length() -> None:
    generator = torch.Generator().manual_seed(0)
    half = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    hessian, gradient = half + half.T, torch.randn(6, generator=generator, dtype=torch.float64)
    values, vectors = torch.linalg.eigh(hessian)
    model = Quadratic(Slope(0.0, gradient), values, vectors.T @ gradient, vectors.matmul)
    for reach in (0.01, 0.3, 100.0):
        step = levenberg_marquardt(6).step(model, reach).vector
        newton = -torch.linalg.solve(hessian, gradient)
        if float(newton.norm()) < reach:
            torch.testing.assert_close(step, newton)
            continue
        # the multiplier of the bound on the length, from one coordinate, fits all others
        residual = hessian @ (gradient + hessian @ step)
        multiplier = -residual[0] / step[0]
        assert float(step.norm()) == pytest.approx(reach, rel=1e-12)
        assert float(multiplier) > 0
        torch.testing.assert_close(residual, -multiplier * step, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_of_starts_of_a_wider_network_most_lead_to_a_critical_point() -> None:
    converged, wanted = 0, 0
    for seed in range(12):
        index = 2 * seed
        point = found(random_weights(seed, 72), index, SIXES, max_hvps=30_000)
        if point.report.outcome == "converged":
            (low, high) = point.report.index or (-1, -1)
            assert low == high
            assert is_critical(point, low, SIXES)
            assert point.report.is_target == (low == index)
            converged += 1
            wanted += point.report.is_target
    assert converged >= 8
    assert wanted >= 5
