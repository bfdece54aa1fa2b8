"""The norm of an operator, against known eigenvalues."""

from __future__ import annotations

import pytest
import torch

from lightning_hessian.linalg import DenseOperator, spectral_norm
from tests.helpers.spectra import outliers_and_bulk, rank_deficient, symmetric_with, various


def _norm(values: torch.Tensor, seed: int = 0, **options: float):
    generator = torch.Generator().manual_seed(seed)
    matrix = symmetric_with(values, seed=seed)
    return spectral_norm(DenseOperator(matrix), generator=generator, **options)


@pytest.mark.parametrize("sign", [1, -1])
def test_norm_is_the_larger_magnitude_of_both_ends(sign: int) -> None:
    found = _norm(sign * outliers_and_bulk(200), rtol=1e-4)
    assert found.converged
    assert found.value == pytest.approx(50, rel=1e-6)


def test_norm_of_nearly_symmetric_ends_is_the_larger_one() -> None:
    bulk = torch.linspace(-1, 1, 98)
    for seed in range(10):
        found = _norm(torch.cat([torch.tensor([5.0, -5.1]), bulk]), seed, rtol=1e-3)
        assert found.value == pytest.approx(5.1, rel=1e-6)


def test_value_is_a_lower_bound_within_the_residual_of_an_eigenvalue() -> None:
    for seed in range(60):
        values = various(seed)
        norm = float(values.abs().max())
        found = _norm(values, seed, max_hvps=6)
        assert found.value <= norm * (1 + 1e-13)
        distance = float((values.abs() - found.value).abs().min())
        assert distance <= found.residual_bound + 1e-13 * norm
        assert found.num_hvps <= 6


def test_low_rank_costs_few_products() -> None:
    found = _norm(rank_deficient(200, 6), rtol=1e-6)
    assert found.value == pytest.approx(6)
    assert found.num_hvps <= 10


def test_norm_of_zero_is_zero() -> None:
    found = _norm(torch.zeros(30))
    assert (found.value, found.converged) == (0.0, True)


def test_too_few_products_are_marked() -> None:
    found = _norm(torch.linspace(-1, 1, 300), max_hvps=4)
    assert (found.converged, found.num_hvps) == (False, 4)


def test_refuses_less_than_a_block() -> None:
    with pytest.raises(ValueError, match=r"`max_hvps` must be at least the block's 2 .* got 1"):
        _norm(torch.ones(5), max_hvps=1)
