"""The laws of the difference and their sample sizes, against searches and simulations."""

from __future__ import annotations

import math

import pytest
import torch

from lightning_hessian.statistics import (
    rms_difference,
    sample_size_by_mean_abs,
    sample_size_by_rms,
    sample_size_uniform,
)
from lightning_hessian.theory import (
    difference_bound,
    mean_square_difference,
    worst_case_difference_bound,
    worst_case_sample_size,
    worst_case_sample_size_of_mean_square,
)
from tests.helpers.orders import POPULATIONS, differences_over_all_orders


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_root_mean_square_is_that_over_all_orders() -> None:
    losses = torch.tensor([0.1, 0.2, 0.4, 0.7, 2.0, 3.0], dtype=torch.float64)
    found = [rms_difference(float(losses.var()), k) for k in range(1, 6)]
    assert found == pytest.approx(differences_over_all_orders(losses).square().mean(0).sqrt())


@pytest.mark.parametrize("threshold", [1e-4, 0.0123, 0.3, 5.0])
@pytest.mark.parametrize("variance", [0.0, 0.37, 12.0])
def test_sizes_are_the_first_at_which_the_difference_is_small(
    variance: float, threshold: float
) -> None:
    k = sample_size_by_rms(variance, threshold)
    assert rms_difference(variance, k) <= threshold * (1 + 1e-12)
    assert k == 1 or rms_difference(variance, k - 1) > threshold
    k = sample_size_by_mean_abs(variance, threshold)
    assert variance / (k + 1) <= threshold * (1 + 1e-12)
    assert k == 1 or variance / k > threshold


def test_uniform_size_is_the_first_at_which_the_inequality_is_met() -> None:
    variance, threshold, delta = 2.0, 0.05, 0.05
    for count in (100, 10_000, None):
        share = 0.0 if count is None else 1 / count
        k = sample_size_uniform(variance, threshold, delta, count)
        bound = [variance / threshold**2 * (1 / j - share) for j in (k - 1, k)]
        assert bound[1] <= delta < bound[0]
        assert count is None or k <= count
    assert sample_size_uniform(variance, 1e-9, delta, 77) == 77
    assert sample_size_uniform(0.0, threshold, delta, 77) == 1


@pytest.mark.parametrize("name", ["uniform", "lognormal"])
def test_uniform_guarantee_is_violated_no_more_often_than_it_says(name: str) -> None:
    losses = POPULATIONS[name].draw(400, generator=_seeded(5))
    variance, delta, generator = float(losses.var()), 0.05, _seeded(6)
    orders = torch.stack([losses[torch.randperm(400, generator=generator)] for _ in range(4000)])
    distance = (orders.cumsum(1) / torch.arange(1, 401) - losses.mean()).abs()
    for share in (0.1, 0.5, 1.0):  # of a standard deviation
        threshold = share * math.sqrt(variance)
        k = sample_size_uniform(variance, threshold, delta, 400)
        violations = float((distance[:, k - 1 :].amax(dim=1) >= threshold).double().mean())
        assert violations <= delta
        # second moments alone: not only not too small a size, but a loose one
        assert violations < delta / 5


def test_worst_cases_are_the_printed_expressions() -> None:
    assert worst_case_sample_size(2.0, 3.0, 5.0, 0.5, 0.1) == pytest.approx(67.5)
    # 12*4 + 3*.04*9 + 3*.0016*(9+6)*25 = 48 + 1.08 + 1.8
    found = worst_case_sample_size_of_mean_square(2.0, 3.0, 5.0, 0.2, 3, 0.5)
    assert found == pytest.approx(math.sqrt(50.88 / 0.5))


def test_worst_case_size_is_never_below_the_measured() -> None:
    losses = POPULATIONS["gamma"].draw(500, generator=_seeded(1))
    deviation = float((losses - losses.mean()).abs().mean())
    worst = worst_case_sample_size(float(losses.max()), 0.0, 0.0, 0.0, 1e-3)
    assert worst > 2 * sample_size_by_mean_abs(deviation, 1e-3)


def test_mean_square_difference_is_that_of_a_sampled_quadratic() -> None:
    generator = _seeded(3)
    gradient = torch.randn(4, generator=generator, dtype=torch.float64)
    hessian = torch.randn(4, 4, generator=generator, dtype=torch.float64)
    hessian = hessian + hessian.T
    for sigma in (0.05, 0.4):
        found = mean_square_difference(0.7, gradient, hessian, sigma)
        x = sigma * torch.randn(400_000, 4, generator=generator, dtype=torch.float64)
        values = (0.7 + x @ gradient + 0.5 * ((x @ hessian) * x).sum(dim=1)).square()
        error = float(values.std()) / math.sqrt(len(x))
        assert abs(found.total - float(values.mean())) < 4 * error
        assert found.value == pytest.approx(0.49)
    one, ten = (mean_square_difference(0.7, gradient, hessian, s) for s in (0.1, 1.0))
    assert ten.linear == pytest.approx(100 * one.linear)
    assert ten.quadratic == pytest.approx(10_000 * one.quadratic)


def test_no_quadratic_loss_in_the_ball_exceeds_the_corrected_lemma() -> None:
    generator = _seeded(4)
    count, size, radius = 6, 3, 0.8
    for _ in range(50):
        values = torch.rand(count, generator=generator, dtype=torch.float64)
        gradients = torch.randn(count, size, generator=generator, dtype=torch.float64)
        hessians = torch.randn(count, size, size, generator=generator, dtype=torch.float64)
        hessians = hessians + hessians.mT
        steps = torch.randn(200, size, generator=generator, dtype=torch.float64)
        steps = radius * steps / steps.norm(dim=1, keepdim=True)
        curved = torch.einsum("si,nij,sj->ns", steps, hessians, steps) / 2
        losses = values[:, None] + gradients @ steps.T + curved
        for k in range(1, count):
            largest = float(((losses[k] - losses[:k].mean(0)) / (k + 1)).abs().max())
            bound = difference_bound(
                k,
                loss_difference=abs(float(values[k] - values[:k].mean())),
                gradient_difference=float((gradients[k] - gradients[:k].mean(0)).norm()),
                hessian_difference=float(
                    torch.linalg.matrix_norm(hessians[k] - hessians[:k].mean(0), ord=2)
                ),
                radius=radius,
            )
            worst = worst_case_difference_bound(
                k,
                max_loss=float(values.max()),
                max_gradient=float(gradients.norm(dim=1).max()),
                max_gauss_newton=0.0,
                max_residual=float(torch.linalg.matrix_norm(hessians, ord=2).max()),
                radius=radius,
            )
            assert largest <= bound <= worst


def test_positive_semidefinite_matrices_differ_by_no_more_than_the_largest() -> None:
    bound = worst_case_difference_bound(
        1, max_loss=0.0, max_gradient=0.0, max_gauss_newton=2.0, max_residual=0.0, radius=1.0
    )
    assert bound == pytest.approx(2.0 / 2 / 2)  # reached: H = diag(2, 0) after diag(0, 2)
