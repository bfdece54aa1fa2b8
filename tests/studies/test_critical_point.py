"""Kind, index, nearness and way down, at critical points that are known exactly."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from scipy.stats import binom
from torch import Tensor

from lightning_hessian.errors import RefusedError
from lightning_hessian.hvp import open_loss
from lightning_hessian.linalg import (
    RitzPairs,
    block_lanczos,
    brackets_below,
    rademacher,
    spectral_density,
)
from lightning_hessian.loss import Trained, TrainingLoss
from lightning_hessian.options import Krylov, PointOptions
from lightning_hessian.records import CriticalPointReport
from lightning_hessian.studies import CriticalPointStudy, DecayedLoss
from tests.helpers.saddles import Problem, Weights
from tests.helpers.seeds import SEEDS

SIZE, DECAY = 8, 0.003
PROBLEM = Problem.of(0, size=SIZE, samples=24, decay=DECAY)


def loss_at(
    weights: Tensor, problem: Problem = PROBLEM, **options: Any
) -> AbstractContextManager[TrainingLoss]:
    """Its mean squared error, without weight decay."""
    return problem.open(weights, **options)


def measured(
    weights: Tensor, problem: Problem = PROBLEM, *, max_hvps: int = 128, **options: Any
) -> CriticalPointReport:
    solver = Krylov(max_hvps=max_hvps)
    asked = PointOptions(weight_decay=problem.decay, solver=solver, **options)
    with loss_at(weights, problem) as loss:
        return CriticalPointStudy(asked, seed=0).measure(loss)


@cache
def saddle(width: int) -> tuple[Tensor, Tensor]:
    """Weights of an exact critical point, and all eigenvalues of its Hessian, ascending."""
    narrow = PROBLEM.minimum(width)
    dead = PROBLEM.dead_unit_spectrum(narrow, width)
    own = dead[:0]
    if width:
        own = torch.linalg.eigvalsh(PROBLEM.derivatives(narrow, width)[1])
    eigenvalues = torch.cat([own, *[dead] * (SIZE - width)]).sort().values
    return PROBLEM.widened(narrow, width, SIZE), eigenvalues


@pytest.mark.parametrize("width", [0, 2, 5, SIZE])
def test_at_minima_of_narrower_networks_index_and_kind_are_those_of_the_dead_units(
    width: int,
) -> None:
    weights, eigenvalues = saddle(width)
    index = int((eigenvalues < 0).sum())
    report = measured(weights)
    assert report.kind == ("saddle" if index else "minimum")
    assert report.gradient_norm < 1e-12
    for count in report.indices:
        expected = float((eigenvalues < -count.threshold).double().mean())
        null = float((eigenvalues.abs() <= count.threshold).double().mean())
        assert count.fraction == count.bracket[0] == count.bracket[1] == expected
        assert count.null == pytest.approx(null, abs=1e-15)
    assert report.indices[1].fraction == index / len(eigenvalues)
    assert float(report.smallest.values[0]) == pytest.approx(float(eigenvalues[0]), abs=1e-10)
    assert float(report.largest.values[0]) == pytest.approx(float(eigenvalues[-1]), abs=1e-10)
    assert report.trace is not None
    assert report.density is not None
    assert report.trace.value == pytest.approx(float(eigenvalues.sum()), abs=1e-10)
    assert report.trace.standard_error < 1e-10
    torch.testing.assert_close(report.density.nodes, eigenvalues, rtol=0, atol=1e-10)
    torch.testing.assert_close(report.density.weights, torch.full((128,), 1 / 128).double())


@pytest.mark.parametrize("products", [20, 60])
def test_trace_and_density_are_those_of_the_sweep_s_own_probe(products: int) -> None:
    # the sweep by hand: what the gradient adds to its start is no probe of the spectrum
    weights, _ = saddle(5)
    with loss_at(weights + 0.05) as loss:
        study = CriticalPointStudy(
            PointOptions(escape=False, solver=Krylov(max_hvps=products, rtol=1e-12)), seed=3
        )
        report = study.measure(loss)
        gradient = loss.gradient().vector
        generator = torch.Generator().manual_seed(3)
        probe = rademacher(loss.size, 1, generator=generator).double()
        start = torch.cat([(gradient / gradient.norm())[:, None], probe], dim=1)
        space = block_lanczos(loss.products, start, max_dimension=products, generator=generator)
        form = float(probe[:, 0] @ loss.products.matmat(probe)[:, 0])
        truth = float(loss.products.matmat(torch.eye(loss.size).double()).trace())
    assert report.trace is not None
    assert report.density is not None
    torch.testing.assert_close(report.density.nodes, RitzPairs.of(space).values)
    of_probe, ritz = replace(space, start=space.start[:, 1:]), RitzPairs.of(space)
    # what a trace is read off: the probe's quadratic form, as the space has it
    own = float(space.start[:, 1] @ space.projection @ space.start[:, 1])
    assert own == pytest.approx(form, rel=1e-10)
    assert abs(report.trace.value - truth) < 3 * report.trace.standard_error
    own_density = spectral_density(of_probe, ritz)
    torch.testing.assert_close(report.density.weights, own_density.weights)
    # of what is around zero no more is known than of what is above and below
    for count in report.indices:
        tau = count.threshold
        below, above = brackets_below(of_probe, ritz, [-tau, tau])
        assert count.null_bracket == pytest.approx(
            (max(above[0] - below[1], 0.0), min(above[1] - below[0], 1.0))
        )


def test_a_null_space_is_bracketed_by_what_is_above_and_below_it() -> None:
    # half of all, between a quarter above and a quarter below
    sides = torch.linspace(1, 1.2, 50, dtype=torch.float64)
    curvatures = torch.cat([-sides, torch.zeros(100, dtype=torch.float64), sides])
    module = Weights(torch.ones(200, dtype=torch.float64))

    def step(_batch: Any, _index: int) -> Tensor:
        return (curvatures * module.values**2).sum() / 2

    with open_loss(module, step, [None], dtype=torch.float64) as loss:
        study = CriticalPointStudy(
            PointOptions(escape=False, solver=Krylov(max_hvps=20, rtol=1e-12)), seed=0
        )
        report = study.measure(loss)
    count = report.indices[0]
    assert count.null == pytest.approx(0.5, abs=0.1)
    # signs measure what is diagonal exactly, so that both brackets are of the sweep alone
    below, (low, high) = count.bracket, count.null_bracket
    assert 0 < low < count.null < high < 1
    width = below[1] - below[0]
    # that above is as wide, by symmetry
    assert high - low == pytest.approx(2 * width, rel=0.1)


def test_of_fewer_than_twelve_products_there_is_a_trace_and_no_density() -> None:
    weights, eigenvalues = saddle(5)
    few = measured(weights + 0.05, max_hvps=10, escape=False)
    assert few.density is None
    assert few.trace is not None
    assert few.trace.standard_error > 0.01 * float(eigenvalues.sum().abs())
    assert measured(weights + 0.05, max_hvps=12, escape=False).density is not None


def test_the_index_of_the_ladder_goes_from_none_to_half_of_all() -> None:
    shares = [measured(saddle(width)[0]).indices[0].fraction for width in (SIZE, 5, 0)]
    assert shares[0] == 0
    assert 0 < shares[1] < 0.5
    # of weights that are all zero one half is negative, but for what the decay lifts
    assert shares[2] == 0.5


@pytest.mark.parametrize("width", [0, 5])
def test_the_way_down_is_what_the_fourth_order_of_a_symmetric_saddle_says(width: int) -> None:
    weights, eigenvalues = saddle(width)
    escape = measured(weights).escape
    assert escape is not None
    lowest = float(eigenvalues[0])
    assert escape.curvature == pytest.approx(lowest, abs=1e-10)
    # a dead unit may wake with either sign: nothing is odd along it
    assert escape.slope == pytest.approx(0, abs=1e-12)
    assert escape.third == pytest.approx(0, abs=1e-8)
    assert escape.predicted_decrease == pytest.approx(3 * lowest**2 / (2 * escape.fourth), rel=1e-6)
    assert abs(escape.predicted_distance) == pytest.approx(
        math.sqrt(-6 * lowest / escape.fourth), rel=1e-6
    )
    assert 0 < escape.predicted_decrease < escape.decrease < 4 * escape.predicted_decrease
    assert escape.decrease == pytest.approx(_loss(weights) - float(escape.losses.min()), abs=1e-14)


def _loss(weights: Tensor) -> float:
    return float(PROBLEM.loss(weights, SIZE))


def test_beside_a_saddle_the_fourth_order_is_that_of_the_loss_on_the_side_it_says() -> None:
    # weights without any symmetry: the loss slopes along the direction, and bends unevenly
    weights, _ = saddle(5)
    generator = torch.Generator().manual_seed(3)
    away = torch.randn(len(weights), generator=generator, dtype=torch.float64)
    report = measured(weights + 0.03 * away)
    escape = report.escape
    assert escape is not None
    assert escape.slope < -1e-4
    assert abs(escape.third) > 1e-3
    near = escape.distances.abs() <= 0.02 * report.parameter_norm
    found = escape.losses[near] - report.loss
    # what is left is of fifth order, but for differences over a hundredth of the length
    torch.testing.assert_close(
        escape.predicted(escape.distances[near]), found, rtol=1e-2, atol=1e-9
    )
    assert int((found > 0).sum()) >= 1
    assert int((found < 0).sum()) >= 3


def test_a_minimum_has_no_way_down() -> None:
    assert measured(saddle(SIZE)[0]).escape is None
    assert measured(saddle(5)[0], escape=False).escape is None


@pytest.mark.parametrize("noise", [1e-4, 1e-3])
def test_near_a_saddle_nothing_is_left_of_a_gradient_that_is_not_small(noise: float) -> None:
    weights, _ = saddle(5)
    generator = torch.Generator().manual_seed(1)
    direction = torch.randn(len(weights), generator=generator, dtype=torch.float64)
    near = weights + noise * weights.norm() * direction / direction.norm()
    report = measured(near)
    assert report.gradient_norm > 1e-4
    assert report.gradient_left < 0.01
    assert report.kind == "saddle"
    assert report.verdict.startswith("Near a saddle: within 1 % of the weights' length")


def test_on_the_way_down_from_random_weights_most_of_the_gradient_is_left() -> None:
    generator = torch.Generator().manual_seed(2)
    weights = 0.3 * torch.randn(2 * SIZE * SIZE, generator=generator, dtype=torch.float64)
    report = measured(weights)
    assert report.gradient_left > 0.9
    assert report.kind == "not critical"
    assert "not a critical point" in report.verdict.lower()


def descended(problem: Problem, seed: int, count: int) -> Tensor:
    """Weights after so many Levenberg-Marquardt steps that make the gradient's norm smaller."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(72, generator=generator, dtype=torch.float64) / 2
    gradient, hessian = problem.derivatives(weights, 6)
    damping, one = 1.0, torch.eye(72, dtype=torch.float64)
    for _ in range(count):
        step = torch.linalg.solve(hessian @ hessian + damping * one, hessian @ gradient)
        shorter, there = problem.derivatives(weights - step, 6)
        if shorter.norm() < gradient.norm():
            weights, gradient, hessian, damping = weights - step, shorter, there, damping / 3
        else:
            damping *= 4
    return weights


@pytest.mark.parametrize("seed", [0, 3, 7])
def test_a_small_gradient_is_no_critical_point_where_its_descent_has_stalled(seed: int) -> None:
    problem = Problem.of(3, size=6, samples=24, decay=0.0)
    report = measured(descended(problem, seed, 150), problem, max_hvps=72, escape=False)
    # passes for a critical point by a squared norm below 1e-6
    assert report.gradient_norm**2 < 1e-6
    assert report.gradient_left > 0.9
    assert report.kind in ("flat", "not critical")


@pytest.mark.slow
def test_where_the_norm_of_the_gradient_is_stationary_a_point_is_called_flat() -> None:
    problem = Problem.of(3, size=6, samples=24, decay=0.0)
    report = measured(descended(problem, 7, 600), problem, max_hvps=72, escape=False)
    assert report.flatness < 1e-3
    assert report.kind == "flat"
    assert report.verdict.startswith("Flat, and not critical: the gradient's norm is stationary")


@pytest.mark.slow
def test_brackets_of_the_index_hold_for_networks_that_are_not_swept_to_the_end() -> None:
    held, covered = [], 0
    for seed in range(SEEDS):
        problem = Problem.of(100 + seed, size=6, samples=18, decay=DECAY)
        generator = torch.Generator().manual_seed(seed)
        weights = 0.7 * torch.randn(72, generator=generator, dtype=torch.float64)
        eigenvalues = torch.linalg.eigvalsh(problem.derivatives(weights, 6)[1])
        report = measured(weights, problem, max_hvps=24, escape=False)
        assert report.trace is not None
        low, high = report.trace.interval
        covered += low <= float(eigenvalues.sum()) <= high
        for count in report.indices:
            negative = float((eigenvalues < -count.threshold).double().mean())
            null = float((eigenvalues.abs() <= count.threshold).double().mean())
            held.append(
                count.bracket[0] <= negative + 1e-12 and negative <= count.bracket[1] + 1e-12
            )
            low, high = count.null_bracket
            held.append(low - 1e-12 <= null <= high + 1e-12)
    assert sum(held) >= 0.95 * len(held)
    # as few as of true 95 % intervals in 0.2 % of cases
    assert covered >= binom.ppf(0.002, SEEDS, 0.95)


def test_a_sweep_stops_when_the_verdict_has_come_to_rest() -> None:
    weights, _ = saddle(5)
    moved = weights + 0.05 * torch.randn(
        len(weights), generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    short, long = measured(moved, max_hvps=127), measured(moved, max_hvps=128)
    assert short.num_hvps < long.num_hvps == 128 + 2
    assert short.gradient_left == pytest.approx(long.gradient_left, abs=0.02)
    assert short.kind == long.kind


def test_too_few_products_are_told_where_they_leave_the_verdict_open() -> None:
    # half a per cent from the minimum, with an equal part of the gradient along each of many
    # eigenvalues: every product takes some of it away
    curvatures = torch.logspace(-2, 0, 60, dtype=torch.float64)
    away = 1 / curvatures
    weights = torch.full((60,), 200 * float(away.norm()) / 60**0.5, dtype=torch.float64)
    module, minimum = Weights(weights), weights - away

    def step(_batch: Any, _index: int) -> Tensor:
        return (curvatures * (module.values - minimum) ** 2).sum() / 2

    found = []
    for count in (8, 60):
        with open_loss(module, step, [torch.zeros(1)], dtype=torch.float64) as loss:
            options = PointOptions(solver=Krylov(max_hvps=count))
            found.append(CriticalPointStudy(options, seed=0).measure(loss))
    codes = [[note.code for note in report.notes if note.qualifies] for report in found]
    assert codes == [["gradient-not-at-rest"], []]
    assert found[0].gradient_left > found[1].gradient_left + 0.02


def test_an_allowance_buys_products_and_never_fewer_than_eight() -> None:
    with loss_at(saddle(5)[0]) as loss:
        study = CriticalPointStudy(PointOptions(escape=False), seed=0)
        # one gradient and two for each product, on one sample
        spent = [study.measure(loss, allowance=float(sum_)).num_hvps for sum_ in (1, 33, 49)]
        costs = [study.measure(loss, allowance=float(sum_)).cost for sum_ in (33, 49)]
    assert spent == [8, 16, 24]
    assert costs == [33, 49]
    assert study.least_price(10) == 10 * (1 + 2 * 8)


def test_the_price_of_a_report_is_that_of_all_that_it_evaluates() -> None:
    with loss_at(saddle(5)[0]) as loss:
        study = CriticalPointStudy(PointOptions(solver=Krylov(max_hvps=24)), seed=0)
        before = loss.num_evaluated
        report = study.measure(loss)
        evaluated = loss.num_evaluated - before
    assert report.escape is not None
    passes = len(report.escape.distances) - 1
    # the gradient, the graph that the sweep keeps, those of the two products beside it
    assert evaluated == 1 + 1 + 2 + passes
    assert report.num_hvps == 24 + 2
    assert report.cost == pytest.approx(1 + 2 * 24 + 2 * 3 + passes / 3)


def test_weight_decay_moves_gradient_loss_and_curvature() -> None:
    weights, _ = saddle(5)
    with loss_at(weights) as loss:
        decayed = DecayedLoss(loss, DECAY)
        gradient = decayed.gradient()
        plain = DecayedLoss(loss)
        assert gradient.loss == pytest.approx(_loss(weights), abs=1e-14)
        assert float(gradient.vector.norm()) < 1e-12
        assert float(plain.gradient().vector.norm()) == pytest.approx(
            DECAY * float(weights.norm()), rel=1e-9
        )
        probe = torch.ones(len(weights), 1, dtype=torch.float64)
        difference = decayed.matmat(probe) - plain.matmat(probe)
        torch.testing.assert_close(difference, DECAY * probe, atol=1e-12, rtol=0)
        # along a direction: the loss as autograd has it there
        direction = torch.ones(len(weights), dtype=torch.float64) / math.sqrt(len(weights))
        assert decayed.value_at(direction, 0.3) == pytest.approx(
            _loss(weights + 0.3 * direction), abs=1e-14
        )


@pytest.mark.parametrize(
    ("optimizer", "words"),
    [
        (torch.optim.SGD, "0.003 of SGD"),
        (torch.optim.Adam, "0.003 of Adam"),
        (torch.optim.AdamW, "none, as that of AdamW is decoupled and part of no loss"),
    ],
)
def test_the_optimisers_weight_decay_is_part_of_the_loss_where_it_is_in_its_gradients(
    optimizer: type[torch.optim.Optimizer], words: str
) -> None:
    weights, _ = saddle(5)
    with loss_at(weights) as loss:
        (parameter,) = loss.parameters.tensors
        steps = optimizer([parameter], lr=0.1, weight_decay=DECAY)  # type: ignore[call-arg]
        loss.trained = Trained([steps], {"values": parameter})
        decayed = DecayedLoss(loss, "optimizer")
        norm = float(decayed.gradient().vector.norm())
    assert decayed.description == words
    left = DECAY * float(weights.norm()) if "AdamW" in words else 0.0
    assert norm == pytest.approx(left, abs=1e-12)


class Foreign(torch.optim.Optimizer):
    """An optimiser of somebody's own."""

    def step(self) -> None:  # type: ignore[override]
        raise NotImplementedError


def test_what_no_known_optimiser_decays_is_refused() -> None:
    with loss_at(saddle(5)[0]) as loss:
        with pytest.raises(RefusedError, match=r"`weight_decay='optimizer'` needs the optimiser"):
            DecayedLoss(loss, "optimizer")
        (parameter,) = loss.parameters.tensors
        loss.trained = Trained([Foreign([parameter], {})], {"values": parameter})
        with pytest.raises(RefusedError, match=r"known for optimisers of torch, got Foreign"):
            DecayedLoss(loss, "optimizer")
        loss.trained = Trained([], {"values": parameter})
        with pytest.raises(RefusedError, match=r"cannot be read off, as no optimiser .* Give a"):
            DecayedLoss(loss, "optimizer")
        loss.trained = Trained([], {"values": parameter}, holds_average=True)
        with pytest.raises(RefusedError, match="averaged weights are stepped by no optimiser"):
            DecayedLoss(loss, "optimizer")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"escape": 1}, "`escape` must be True or False, got 1"),
        ({"weight_decay": -1.0}, "`weight_decay` must be 'none', 'optimizer' .* got -1.0"),
        ({"weight_decay": "all"}, "`weight_decay` must be 'none', 'optimizer' .* got 'all'"),
        ({"solver": None}, "`solver` of `CriticalPoint` must be a `Krylov`, got None"),
        (
            {"solver": Krylov(precision="bfloat16")},
            "`solver` of `CriticalPoint` must not have `precision='bfloat16'`",
        ),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PointOptions(**options)
