"""Searches for critical points: of losses whose points are known, and what they say of others."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from lightning_hessian.errors import RefusedError
from lightning_hessian.hvp import open_loss
from lightning_hessian.studies import FoundPoint, SearchState, SearchTarget, find_critical_point
from tests.helpers.saddles import Problem, TanhNet, Weights

PROBLEM = Problem.of(0, size=3, samples=9, decay=0.01)
"""Of 18 parameters at full width."""
WIDE = Problem.of(0, size=8, samples=24, decay=0.003)


def found(
    weights: Tensor, target: SearchTarget, problem: Problem = PROBLEM, **options: Any
) -> FoundPoint:
    with problem.open(weights) as loss:
        return find_critical_point(loss, target=target, weight_decay=problem.decay, **options)


def random_weights(seed: int, size: int = 18) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, generator=generator, dtype=torch.float64) / 2


def saddle(problem: Problem, width: int) -> tuple[Tensor, int]:
    """Weights of an exact critical point, and its index."""
    weights = problem.widened(problem.minimum(width), width, problem.size)
    _, hessian = problem.derivatives(weights, problem.size)
    return weights, int((torch.linalg.eigvalsh(hessian) < 0).sum())


def beside(weights: Tensor, noise: float, seed: int = 0) -> Tensor:
    """At a distance, as a share of the weights' length."""
    direction = random_weights(seed, len(weights))
    return weights + noise * (float(weights.norm()) or 1.0) * direction / direction.norm()


def of_scalars(
    values: list[float], function: Callable[..., Tensor], target: SearchTarget, **options: Any
) -> FoundPoint:
    module = Weights(torch.tensor(values, dtype=torch.float64))

    def step(_batch: Any, _index: int) -> Tensor:
        return function(*module.values)

    with open_loss(module, step, [None], dtype=torch.float64) as loss:
        return find_critical_point(loss, target=target, **options)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_minimum_is_found_from_random_weights(seed: int) -> None:
    point = found(random_weights(seed), "minimum", max_hvps=5000)
    assert point.report.outcome == "converged"
    assert point.report.is_target
    gradient, hessian = PROBLEM.derivatives(point.weights, 3)
    # as the report has it, by another way
    assert float(gradient.norm()) == pytest.approx(point.report.course[-1].gradient_norm, abs=1e-12)
    assert float(gradient.norm()) < 1e-8
    assert float(torch.linalg.eigvalsh(hessian)[0]) > -1e-9
    losses = [each.loss for each in point.report.course]
    assert all(later <= earlier + 1e-14 for earlier, later in pairwise(losses))


@pytest.mark.parametrize("width", [0, 2])
def test_the_nearest_point_is_the_saddle_that_the_start_is_beside(width: int) -> None:
    weights, index = saddle(PROBLEM, width)
    assert index > 0
    point = found(beside(weights, 1e-3), "nearest", max_hvps=1000)
    assert point.report.is_target
    assert point.report.index == (index, index)
    assert point.report.point is not None
    assert point.report.point.kind == "saddle"
    # of the weights' length, a thousandth of which it began with
    assert float((point.weights - weights).norm()) < 1e-5 * (float(weights.norm()) or 1.0)


@pytest.mark.slow
def test_from_a_thousandth_beside_them_all_nine_saddles_of_a_ladder_are_found() -> None:
    for width in range(9):
        weights, index = saddle(WIDE, width)
        point = found(beside(weights, 1e-3, width), "nearest", WIDE, max_hvps=2000)
        assert point.report.index == (index, index)
        assert float((point.weights - weights).norm()) < 1e-5
        assert point.report.num_hvps <= 1400


def test_a_saddle_of_the_index_asked_for_is_found_from_random_weights() -> None:
    for seed, index in ((0, 3), (1, 5)):
        point = found(random_weights(seed), index, max_hvps=5000)
        assert point.report.is_target, point.report.verdict
        gradient, hessian = PROBLEM.derivatives(point.weights, 3)
        assert float(gradient.norm()) < 1e-8
        assert int((torch.linalg.eigvalsh(hessian) < 0).sum()) == index
        # the saddle is not the nearest one, and the report says how far it is
        away = float((point.weights - random_weights(seed)).norm())
        assert point.report.distance == pytest.approx(away, rel=1e-12)


@pytest.mark.slow
def test_most_starts_lead_to_a_saddle_of_the_index_asked_for() -> None:
    reached = 0
    for seed in range(8):
        index = 1 + seed % 4
        point = found(random_weights(seed), index, max_hvps=18 * 80)
        gradient, hessian = PROBLEM.derivatives(point.weights, 3)
        count = int((torch.linalg.eigvalsh(hessian) < 0).sum())
        assert point.report.is_target == (float(gradient.norm()) < 1e-8 and count == index)
        reached += point.report.is_target
    # six or more are usual
    assert reached >= 5


def test_a_descent_that_begins_on_a_saddle_does_not_call_it_a_minimum() -> None:
    weights, index = saddle(PROBLEM, 2)
    report = found(weights, "minimum").report
    assert report.outcome == "converged"
    assert report.index == (index, index)
    assert not report.is_target
    assert report.verdict.startswith("Converged: |g| is ")
    assert "A saddle: |g| is" in report.verdict
    assert "It is not what was looked for, minimum." in report.verdict


def logistic(x: Tensor) -> Tensor:
    """Of one sample: without weight decay it falls for ever."""
    return nn.functional.softplus(-x)


def test_weights_that_run_away_are_said_to_have_escaped() -> None:
    report = of_scalars([1.0], logistic, "minimum").report
    assert report.outcome == "escaped"
    assert report.norm > 10 * report.start_norm
    assert "There may be no critical point at a finite distance" in report.verdict
    assert "`weight_decay` above zero keeps the weights from running away" in report.verdict


def test_weight_decay_gives_them_a_minimum() -> None:
    point = of_scalars([1.0], logistic, "minimum", weight_decay=0.01)
    assert point.report.is_target
    (x,) = point.weights.tolist()
    # its derivative vanishes there
    assert 0.01 * x == pytest.approx(1 / (1 + math.exp(x)), abs=1e-8)


def test_where_the_norm_of_the_gradient_is_stationary_the_search_ends_flat() -> None:
    # the first derivative of x + x^3 / 3 is least at zero, where it is one
    report = of_scalars(
        [1.0, 0.0], lambda x, y: (x - 1) + (x - 1) ** 3 / 3 + y**2 / 2, "nearest"
    ).report
    assert report.outcome == "flat"
    assert report.point is not None
    assert report.point.kind == "flat"
    assert "is stationary: such a point is no critical one" in report.verdict


def test_on_a_kink_the_search_says_that_it_has_stalled() -> None:
    report = of_scalars(
        [1.0, 1.0], lambda x, y: x.abs() + (x - y) ** 2 / 2 + y**2 / 100, "nearest", max_hvps=2000
    ).report
    assert report.outcome == "stalled"
    assert "as where a rectifier has a kink" in report.verdict


def test_a_budget_that_is_spent_is_not_passed_and_the_state_goes_on_to_the_same_bits() -> None:
    told: list[int] = []
    whole = found(random_weights(0), "minimum", on_products=told.append)
    assert sum(told) == whole.report.num_hvps
    half = found(random_weights(0), "minimum", max_hvps=100)
    assert half.report.outcome == "budget spent"
    assert "Go on from its state, or raise `max_hvps`" in half.report.verdict
    assert 100 - 18 < half.report.num_hvps <= 100
    rest = found(random_weights(0), "minimum", state=half.state)
    assert torch.equal(rest.weights, whole.weights)
    assert [each.loss for each in rest.report.course] == [each.loss for each in whole.report.course]
    # of which the report of the point in between is one
    assert rest.report.num_hvps == whole.report.num_hvps + 18
    assert rest.report.distance == whole.report.distance
    assert rest.report.seconds > half.report.seconds


def test_an_interrupted_search_keeps_its_best_point_and_goes_on() -> None:
    left = [90]

    def interrupt(num_products: int) -> None:
        left[0] -= num_products
        if left[0] < 0:
            raise KeyboardInterrupt

    stopped = found(random_weights(0), "minimum", on_products=interrupt)
    assert stopped.report.outcome == "interrupted"
    assert stopped.report.point is None
    assert stopped.report.index is None
    assert not stopped.report.is_target
    assert "It goes on from its state" in stopped.report.verdict
    losses = [each.loss for each in stopped.report.course]
    assert float(PROBLEM.loss(stopped.weights, 3)) == pytest.approx(min(losses), abs=1e-14)
    assert found(random_weights(0), "minimum", state=stopped.state).report.is_target


def test_a_state_of_another_loss_is_refused() -> None:
    half = found(random_weights(0), "minimum", max_hvps=100)
    with (
        Problem.of(1, size=3, samples=9, decay=0.01).open(random_weights(0)) as loss,
        pytest.raises(ValueError, match=r"`state` must be of a search of this loss, got one of a"),
    ):
        find_critical_point(loss, target="minimum", weight_decay=0.01, state=half.state)


def test_without_trajectories_a_search_ends_where_eigenvectors_lead() -> None:
    both = [
        found(random_weights(seed), 1 + seed % 4, max_hvps=18 * 300, trajectories=trajectories)
        for trajectories in (False, True)
        for seed in range(8)
    ]
    alone, beyond = both[:8], both[8:]
    assert sum(point.report.is_target for point in beyond) >= sum(
        point.report.is_target for point in alone
    )
    for point, other in zip(alone, beyond, strict=True):
        assert {each.name for each in point.report.shares} == {"eigenvector following"}
        if point.report.is_target:
            assert torch.equal(point.weights, other.weights)


def test_an_interrupt_before_anything_was_seen_is_passed_on() -> None:
    def step(_batch: Any, _index: int) -> Tensor:
        raise KeyboardInterrupt

    module = Weights(torch.ones(3))
    with (
        open_loss(module, step, [None], dtype=torch.float64) as loss,
        pytest.raises(KeyboardInterrupt),
    ):
        find_critical_point(loss, target="minimum")


class Noisy(LightningModule):
    """Batch statistics, dropout, and float32 weights."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Dropout(0.2), nn.Linear(4, 1)
        )

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return (self.layers(batch.to(self.layers[0].weight.dtype)) - 1).square().mean()


@pytest.mark.parametrize("ends", ["by itself", "by an interrupt"])
def test_weights_buffers_flags_and_generators_are_what_they_were_to_the_last_bit(ends: str) -> None:
    torch.manual_seed(0)
    module, batch = Noisy(), torch.randn(20, 3)
    before, flags = copy.deepcopy(module.state_dict()), [m.training for m in module.modules()]
    generator, objects = torch.get_rng_state(), [id(p) for p in module.parameters()]

    def interrupt(_num_products: int) -> None:
        if ends == "by an interrupt":
            raise KeyboardInterrupt

    with open_loss(
        module, module.training_step, [batch], mode="train", dtype=torch.float64
    ) as loss:
        point = find_critical_point(
            loss, target="minimum", weight_decay=0.01, max_hvps=90, on_products=interrupt
        )
    assert (point.report.distance > 0) == (ends == "by itself")
    after = module.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(generator, torch.get_rng_state())
    assert flags == [m.training for m in module.modules()]
    assert objects == [id(p) for p in module.parameters()]
    assert all(p.grad is None and p.dtype == torch.float32 for p in module.parameters())


def test_what_is_found_can_be_loaded_into_a_module() -> None:
    net = TanhNet(PROBLEM, random_weights(1), 3)
    batch = (PROBLEM.inputs, PROBLEM.targets)
    with open_loss(net, net.training_step, [batch], dtype=torch.float64) as loss:
        point = find_critical_point(loss, target="minimum", weight_decay=PROBLEM.decay)
    assert point.report.is_target
    moves = point.report.moves
    assert [move.name for move in moves] == ["into", "out"]
    assert math.hypot(*(move.distance for move in moves)) == pytest.approx(point.report.distance)
    assert math.hypot(*(move.norm for move in moves)) == pytest.approx(point.report.start_norm)
    assert math.hypot(*(move.norm_found for move in moves)) == pytest.approx(point.report.norm)
    net.load_state_dict(point.parameters)
    total = net.training_step(batch, 0)
    slopes = torch.autograd.grad(total, list(net.parameters()))
    for slope, weights in zip(slopes, net.parameters(), strict=True):
        assert float((slope + PROBLEM.decay * weights.detach()).norm()) < 1e-8


def test_the_report_is_plain_and_holds_no_weights() -> None:
    report = found(random_weights(0), "minimum", max_hvps=40).report
    values = json.loads(json.dumps(report.to_dict()))
    assert values["outcome"] == "budget spent"
    assert values["course"][0]["num_hvps"] == 0
    assert len(values["moves"]) == 1
    assert "weights" not in values


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "saddle"}, r"`target` must be 'minimum', 'nearest' or an index from 0 to 18"),
        ({"target": 19}, r"an index from 0 to 18, got 19"),
        ({"target": True}, r"an index from 0 to 18, got True"),
        (
            {"weight_decay": -1.0},
            r"`weight_decay` must be .* a number of at least 0, got -1",
        ),
        ({"weight_decay": "all"}, r"`weight_decay` must be 'none', .* got 'all'"),
        ({"tolerance": None}, r"`tolerance` must be above 0 and at most 1, got None"),
        ({"max_hvps": math.nan}, r"`max_hvps` must be a whole number, got nan"),
        ({"max_hvps": "100"}, r"`max_hvps` must be a whole number, got '100'"),
        ({"tolerance": 0.0}, r"`tolerance` must be above 0 and at most 1, got 0.0"),
        ({"tolerance": 1e300}, r"`tolerance` must be above 0 and at most 1, got 1e\+300"),
        ({"max_hvps": 35}, r"`max_hvps` must be at least 36, a step by saddle-free Newton .* 35"),
        (
            {"state": SearchState("nearest", torch.zeros(18), torch.zeros(18))},
            r"`state` must be of a search for minimum among 18 parameters, got one for nearest",
        ),
        (
            {"state": SearchState("minimum", torch.zeros(17), torch.zeros(17))},
            r"among 18 parameters, got one for minimum among 17",
        ),
    ],
)
def test_wrong_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with PROBLEM.open(random_weights(0)) as loss, pytest.raises(ValueError, match=message):
        find_critical_point(loss, **{"target": "minimum", **options})


def test_single_precision_and_saddles_of_large_networks_are_refused() -> None:
    module = Weights(torch.ones(2001))

    def step(_batch: Any, _index: int) -> Tensor:
        return module.values.square().sum()

    with (
        open_loss(module, step, [None]) as loss,
        pytest.raises(RefusedError, match=r"needs a loss in float64, got torch.float32"),
    ):
        find_critical_point(loss, target="minimum")
    with (
        open_loss(module, step, [None], dtype=torch.float64) as loss,
        pytest.raises(RefusedError, match=r"`target=3` needs the whole Hessian, .* got 2,001"),
    ):
        find_critical_point(loss, target=3)
