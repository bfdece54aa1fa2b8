"""Eigenvectors of the largest eigenvalues, against matrices made from known ones."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lightning_hessian.linalg import DenseOperator, leading_eigenvectors
from tests.helpers.spectra import outliers_and_bulk, rank_deficient, symmetric_with


def _found(matrix: Tensor, count: int, seed: int = 0, **options: float):
    generator = torch.Generator().manual_seed(seed)
    return leading_eigenvectors(DenseOperator(matrix), count=count, generator=generator, **options)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_vectors_are_orthonormal_with_the_residuals_stated(dtype: torch.dtype) -> None:
    matrix = symmetric_with(outliers_and_bulk(200), dtype=dtype)
    found = _found(matrix, 5)
    assert found.vectors.shape == (200, 5)
    assert found.vectors.dtype == dtype
    vectors, rounding = found.vectors.double(), 100 * torch.finfo(dtype).eps
    assert float((vectors.T @ vectors - torch.eye(5)).abs().max()) < rounding
    residuals = (matrix.double() @ vectors - vectors * found.eigenvalues.values).norm(dim=0)
    # 50 is the matrix's norm
    assert bool((residuals <= found.eigenvalues.residual_bounds + 50 * rounding).all())
    assert bool(found.eigenvalues.converged.all())


def test_angle_to_the_true_vectors_is_at_most_bound_over_gap() -> None:
    matrix = symmetric_with(outliers_and_bulk(200))
    exact = torch.linalg.eigh(matrix).eigenvectors.flip(1)[:, :5]
    for rtol in (1e-1, 1e-2, 1e-4):
        found = _found(matrix, 5, rtol=rtol)
        sines = (1 - (found.vectors * exact).sum(dim=0).square()).clamp_min(0).sqrt()
        gap = 5 - found.eigenvalues.residual_bounds  # the ten outliers are 5 apart
        assert bool((sines <= found.eigenvalues.residual_bounds / gap + 1e-7).all())


def test_leading_means_algebraically_largest_in_descending_order() -> None:
    values = torch.cat([torch.tensor([-30.0, -20.0, 4.0, 6.0]), torch.linspace(-1, 1, 96)])
    found = _found(symmetric_with(values), 2, rtol=1e-6)
    assert found.eigenvalues.values.tolist() == pytest.approx([6.0, 4.0], rel=1e-6)


def test_entry_of_largest_magnitude_is_positive_whatever_the_probes() -> None:
    matrix = symmetric_with(outliers_and_bulk(100))
    first, second = (_found(matrix, 4, seed=seed, rtol=1e-8).vectors for seed in (1, 2))
    for vectors in (first, second):
        peaks = vectors.gather(0, vectors.abs().argmax(dim=0, keepdim=True))
        assert bool((peaks > 0).all())
    # the bound of 1e-8 |theta| over the gap of 5
    assert float((first - second).abs().max()) < 1e-6


def test_a_degenerate_eigenvalue_gives_its_subspace() -> None:
    values = torch.cat([torch.full((3,), 7.0), torch.linspace(-1, 1, 77)])
    matrix = symmetric_with(values)
    found = _found(matrix, 3, rtol=1e-6)
    exact = torch.linalg.eigh(matrix).eigenvectors[:, -3:]
    assert float((exact.T @ found.vectors).norm() ** 2) == pytest.approx(3, abs=1e-9)


def test_all_eigenvectors_diagonalise_the_matrix() -> None:
    matrix = symmetric_with(rank_deficient(12, 4))
    found = _found(matrix, 12, probes_per_block=5)
    back = found.vectors @ found.eigenvalues.values.diag() @ found.vectors.T
    assert float((back - matrix).abs().max()) < 1e-12
    assert found.num_hvps == 12


def test_too_few_products_are_marked_and_not_exceeded() -> None:
    matrix = symmetric_with(torch.linspace(-1, 1, 300))
    found = _found(matrix, 2, max_hvps=9, rtol=1e-6)
    assert found.num_hvps == 8
    assert not bool(found.eigenvalues.converged.any())
    assert bool((found.eigenvalues.residual_bounds > 1e-6).all())


def test_counts_every_product() -> None:
    class Counting(DenseOperator):
        num_products = 0

        def matmat(self, vectors: Tensor) -> Tensor:
            self.num_products += vectors.shape[1]
            return super().matmat(vectors)

    operator = Counting(symmetric_with(outliers_and_bulk(80)))
    found = leading_eigenvectors(operator, count=3, generator=torch.Generator().manual_seed(0))
    assert found.num_hvps == operator.num_products < 40


@pytest.mark.parametrize("count", [0, 21])
def test_refuses_a_count_that_does_not_exist(count: int) -> None:
    with pytest.raises(ValueError, match=rf"`count` must be between 1 and .* 20 .*, got {count}\."):
        _found(torch.eye(20), count)


def test_refuses_fewer_products_than_vectors() -> None:
    with pytest.raises(ValueError, match=r"`max_hvps` must be at least 8 for 5 eigenvectors .* 7"):
        _found(torch.eye(20), 5, max_hvps=7)
