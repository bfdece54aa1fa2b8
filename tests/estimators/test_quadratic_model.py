"""How far the gradient and the loss fall within a radius, against dense linear algebra."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from lightning_hessian.linalg import DenseOperator, QuadraticModel, block_lanczos

SIZE = 30


def spectrum(kind: str) -> Tensor:
    values = torch.linspace(-1, 2, SIZE, dtype=torch.float64)
    if kind == "positive":
        return values + 1.1
    return values if kind == "indefinite" else torch.where(values.abs() < 0.7, 0.0, values)


def problem(kind: str, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(SIZE, SIZE, generator=generator, dtype=torch.float64))[0]
    gradient = torch.randn(SIZE, generator=generator, dtype=torch.float64)
    return basis @ torch.diag(spectrum(kind)) @ basis.T, gradient


def model_of(matrix: Tensor, gradient: Tensor, dimension: int = SIZE) -> QuadraticModel:
    space = block_lanczos(
        DenseOperator(matrix),
        gradient[:, None] / gradient.norm(),
        max_dimension=dimension,
        generator=torch.Generator().manual_seed(1),
    )
    return QuadraticModel.of(space, gradient_norm=float(gradient.norm()))


def largest_of(dual: Callable[[float], float]) -> float:
    """Of a concave function over positive numbers."""
    logarithms = {"bounds": (-30.0, 20.0), "method": "bounded", "options": {"xatol": 1e-10}}
    return -float(minimize_scalar(lambda at: -dual(math.exp(at)), **logarithms).fun)


@pytest.mark.parametrize("kind", ["positive", "indefinite", "degenerate"])
@pytest.mark.parametrize("radius", [0.1, 1.0, 10.0])
def test_what_is_left_and_what_is_won_are_the_largest_values_of_their_duals(
    kind: str, radius: float
) -> None:
    matrix, gradient = problem(kind)
    one = torch.eye(SIZE, dtype=torch.float64)
    lowest = min(float(spectrum(kind).min()), 0.0)

    def of_length(damping: float) -> float:
        """``min_s |g + H s|^2 + mu (|s|^2 - radius^2)``, at most the smallest in the ball."""
        step = -torch.linalg.solve(matrix @ matrix + damping * one, matrix @ gradient)
        left = gradient + matrix @ step
        return float(left @ left + damping * (step @ step - radius**2))

    def of_decrease(beyond: float) -> float:
        """``min_s g.s + s.H s / 2 + nu (|s|^2 - radius^2) / 2``, nu above minus the lowest."""
        shift = beyond - lowest
        step = torch.linalg.solve(matrix + shift * one, gradient)
        return -float(gradient @ step + shift * radius**2) / 2

    model = model_of(matrix, gradient)
    left = max(largest_of(of_length), 0.0) ** 0.5 / float(gradient.norm())
    # a square is known to 1e-12 or so
    assert model.least_gradient(radius) == pytest.approx(left, abs=2e-6)
    assert model.largest_decrease(radius) == pytest.approx(-largest_of(of_decrease), rel=1e-8)


def test_in_a_smaller_space_bounds_are_from_one_side_and_tighten() -> None:
    matrix, gradient = problem("indefinite")
    whole = model_of(matrix, gradient)
    models = [model_of(matrix, gradient, dimension) for dimension in (2, 5, 10, 20)]
    left = [model.least_gradient(1.0) for model in models]
    won = [model.largest_decrease(1.0) for model in models]
    assert left == sorted(left, reverse=True)
    assert won == sorted(won)
    assert left[-1] >= whole.least_gradient(1.0) - 1e-12
    assert won[-1] <= whole.largest_decrease(1.0) + 1e-12


def test_a_space_of_more_probes_holds_the_gradient_alike() -> None:
    matrix, gradient = problem("indefinite")
    block = torch.stack([gradient, torch.ones(SIZE, dtype=torch.float64)], dim=1)
    space = block_lanczos(
        DenseOperator(matrix),
        block,
        max_dimension=SIZE,
        generator=torch.Generator().manual_seed(1),
    )
    model = QuadraticModel.of(space, gradient_norm=float(gradient.norm()))
    alone = model_of(matrix, gradient)
    assert model.least_gradient(0.5) == pytest.approx(alone.least_gradient(0.5), abs=1e-10)
    assert model.largest_decrease(0.5) == pytest.approx(alone.largest_decrease(0.5), abs=1e-10)


def test_near_a_critical_point_nothing_is_left_from_its_distance_on() -> None:
    matrix, _ = problem("indefinite")
    away = torch.zeros(SIZE, dtype=torch.float64)
    away[0] = 0.3
    model = model_of(matrix, matrix @ away)
    assert model.least_gradient(0.3) == pytest.approx(0, abs=1e-12)
    assert model.least_gradient(0.15) == pytest.approx(0.5, abs=0.3)


def test_along_a_saddle_without_slope_the_step_fills_up() -> None:
    # 0.5 of the gradient along +1, and -1 along which there is nothing of it
    matrix = torch.diag(torch.tensor([1.0, -1.0], dtype=torch.float64))
    model = QuadraticModel(
        gradient=torch.tensor([0.5, 0.0], dtype=torch.float64),
        projection=matrix,
        outflow=torch.zeros(0, 2, dtype=torch.float64),
    )
    # s = (-0.5 / 2, y): 0.5 * 0.25 - 0.25^2 / 2 + (1 - 0.25^2) / 2
    assert model.largest_decrease(1.0) == pytest.approx(0.125 - 0.03125 + (1 - 0.0625) / 2)


def test_flatness_is_the_length_of_the_product_with_the_gradient() -> None:
    matrix, gradient = problem("degenerate")
    model = model_of(matrix, gradient)
    expected = float((matrix @ gradient).norm() / gradient.norm()) / 2
    assert model.flatness == pytest.approx(expected, rel=1e-10)
    assert model_of(torch.zeros_like(matrix), gradient).flatness == 0


def test_without_a_radius_nothing_moves() -> None:
    model = model_of(*problem("positive"))
    assert (model.least_gradient(0.0), model.largest_decrease(0.0)) == (1.0, 0.0)


def test_the_first_vectors_tell_what_a_shorter_run_would_have_told() -> None:
    matrix, gradient = problem("indefinite")
    shorter, part = model_of(matrix, gradient, 7), model_of(matrix, gradient, 20).of_first(7)
    assert part.least_gradient(0.7) == pytest.approx(shorter.least_gradient(0.7), abs=1e-10)
    assert part.largest_decrease(0.7) == pytest.approx(shorter.largest_decrease(0.7), abs=1e-10)
