"""Where SGD on an interpolating least squares problem really diverges, beside batch sharpness.

There the second moment of ``w - w*`` is mapped linearly from step to step, so that the rate at
which it grows is known exactly: neither mean of batch sharpness is ``2 / lr`` of it.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_hessian.hvp import along_gradients
from tests.helpers.least_squares import LeastSquares

PROBLEM = LeastSquares.drawn(30, (2.5, 1.0, 0.5, 0.5), seed=0, noise=0.0)
COUNT, SIZE = PROBLEM.inputs.shape
MINIMUM = torch.linalg.lstsq(PROBLEM.inputs, PROBLEM.targets[:, None]).solution[:, 0]


def map_of_second_moments(batch_size: int, rate: float) -> Tensor:
    """``(16, 16)``: ``S -> E[(I - r H_B) S (I - r H_B)]`` over all batches of a size."""
    outer = torch.einsum("ni,nj->nij", PROBLEM.inputs, PROBLEM.inputs).reshape(COUNT, -1)
    total, same = outer.sum(dim=0), outer.T @ outer / COUNT
    # of the pairs in a batch one in so many is a sample with itself
    others = (torch.outer(total, total) - COUNT * same) / (COUNT * (COUNT - 1))
    squared = (same + (batch_size - 1) * others) / batch_size
    hessian, eye = (total / COUNT).reshape(SIZE, SIZE), torch.eye(SIZE, dtype=torch.float64)
    left, right = torch.kron(hessian, eye), torch.kron(eye, hessian)
    # rows (i, l) and columns (j, k) of H_ij S_jk H_kl
    both = torch.einsum("ijkl->iljk", squared.reshape(SIZE, SIZE, SIZE, SIZE)).reshape(16, 16)
    return torch.eye(16, dtype=torch.float64) - rate * (left + right) + rate**2 * both


def growth(batch_size: int, rate: float) -> float:
    return float(torch.linalg.eigvals(map_of_second_moments(batch_size, rate)).abs().max())


def largest_rate(batch_size: int) -> float:
    """At which second moments neither grow nor shrink, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if growth(batch_size, middle) < 1 else (low, middle)
    return low


def critical_points(batch_size: int) -> Tensor:
    """``(4, 4)`` rows whose mean of ``e e^T`` is the second moment that stays as it is."""
    values, vectors = np.linalg.eig(
        map_of_second_moments(batch_size, largest_rate(batch_size)).numpy()
    )
    moment = torch.tensor(vectors[:, np.abs(values).argmax()].real).reshape(SIZE, SIZE)
    lengths, axes = torch.linalg.eigh(moment / moment.trace())
    return (axes * (SIZE * lengths.clamp_min(0)).sqrt()).T


def batches_of(size: int) -> list[list[int]]:
    """All of them, or 400 where there are more."""
    if size <= 2 or size == COUNT:
        return [list(rows) for rows in combinations(range(COUNT), size)]
    generator = torch.Generator().manual_seed(size)
    return [torch.randperm(COUNT, generator=generator)[:size].tolist() for _ in range(400)]


def measured(size: int, points: Tensor) -> tuple[float, float]:
    """The ratio of means and the mean of ratios, over batches and points."""
    forms, squares = [], []
    for point in points:
        with PROBLEM.opened(batches_of(size), MINIMUM + point) as loss:
            table = along_gradients(loss)
        forms.append(table.forms)
        squares.append(table.squares)
    above, below = torch.cat(forms), torch.cat(squares)
    return float(above.sum() / below.sum()), float((above / below).mean())


@pytest.mark.parametrize(
    ("size", "threshold", "of_means", "of_ratios"),
    # 2 / lr, the ratio of means there, and the mean of ratios over directions of that moment
    [(1, 30.3, 49.4, 8.0), (2, 17.9, 27.1, 7.0), (5, 10.4, 13.8, 6.4), (30, 6.26, 6.26, 6.26)],
)
def test_the_ratio_of_means_is_above_the_threshold_and_the_mean_of_ratios_below(
    size: int, threshold: float, of_means: float, of_ratios: float
) -> None:
    exact = 2 / largest_rate(size)
    assert exact == pytest.approx(threshold, rel=5e-3)
    means, _ = measured(size, critical_points(size))
    # of 400 batches of five the means are known to some hundredths
    assert means == pytest.approx(of_means, rel=0.05 if size == 5 else 5e-3)
    generator = torch.Generator().manual_seed(7)
    draws = torch.randn(4, SIZE, generator=generator, dtype=torch.float64)
    _, ratios = measured(size, draws @ critical_points(size) / SIZE**0.5)
    # over four directions, where single samples have the same ratio in each
    assert ratios == pytest.approx(of_ratios, rel=0.05)
    if size < COUNT:
        assert ratios < 0.7 * exact < exact < 0.8 * means
    else:
        largest = torch.linalg.eigvalsh(PROBLEM.inputs.T @ PROBLEM.inputs / COUNT)[-1]
        assert (exact, means, ratios) == pytest.approx((float(largest),) * 3, rel=1e-6)


def test_the_mean_of_ratios_of_single_samples_is_the_trace_wherever_it_is_measured() -> None:
    generator = torch.Generator().manual_seed(1)
    points = torch.randn(2, SIZE, generator=generator, dtype=torch.float64)
    trace = float(PROBLEM.inputs.square().sum() / COUNT)
    assert measured(1, points)[1] == pytest.approx(trace, rel=1e-12)


@pytest.mark.parametrize("size", [1, 2, 30])
def test_the_threshold_is_that_of_the_slope_at_the_critical_second_moment(size: int) -> None:
    # E|g|^2 / E[e.g], which no training knows, as it knows no minimum
    points, batches = critical_points(size), batches_of(size)
    slopes = [[PROBLEM.derivatives(rows, MINIMUM + e)[0] for rows in batches] for e in points]
    squares = sum(float(g @ g) for row in slopes for g in row)
    along = sum(float(e @ g) for e, row in zip(points, slopes, strict=True) for g in row)
    assert squares / along == pytest.approx(2 / largest_rate(size), rel=1e-9)


@pytest.mark.parametrize(("times", "grows"), [(0.97, False), (1.03, True)])
def test_second_moments_of_real_steps_grow_past_the_threshold_and_shrink_below(
    times: float, grows: bool
) -> None:
    rate = times * largest_rate(2)
    moment = torch.eye(SIZE, dtype=torch.float64)
    batches = batches_of(2)
    eye = torch.eye(SIZE, dtype=torch.float64)
    steps = torch.stack([eye - rate * PROBLEM.derivatives(rows, MINIMUM)[1] for rows in batches])
    for _ in range(300):
        moment = (steps @ moment @ steps.mT).mean(dim=0)
    later = (steps @ moment @ steps.mT).mean(dim=0)
    assert (float(later.trace()) > float(moment.trace())) is grows
