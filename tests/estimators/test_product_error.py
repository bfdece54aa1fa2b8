"""Products with a known error: it is in every bound, and nothing converges below it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_hessian.linalg import DenseOperator, measure_spectrum
from lightning_hessian.records import Spectrum
from tests.helpers.spectra import outliers_and_bulk, symmetric_with


def measured(matrix: Tensor, error: float, **options: Any) -> Spectrum:
    return measure_spectrum(
        DenseOperator(matrix),
        generator=torch.Generator().manual_seed(0),
        trace=False,
        product_error=lambda: error,
        **options,
    )


def test_the_error_is_added_to_the_bounds_of_both_ends() -> None:
    matrix = symmetric_with(outliers_and_bulk(120))
    exact, off = (measured(matrix, error, max_hvps=40, rtol=1e-9) for error in (0.0, 0.25))
    for end in ("largest", "smallest"):
        without, with_error = getattr(exact, end), getattr(off, end)
        assert without.values.equal(with_error.values)
        assert torch.allclose(with_error.residual_bounds - without.residual_bounds, _quarter())


def _quarter() -> Tensor:
    return torch.tensor(0.25, dtype=torch.float64)


@pytest.mark.parametrize(("error", "converges"), [(0.01, True), (0.3, False)])
def test_an_eigenvalue_converges_only_above_the_error(error: float, converges: bool) -> None:
    """The range is about 50: at ``rtol = 0.003`` it allows 0.15."""
    spectrum = measured(
        symmetric_with(outliers_and_bulk(120)), error, num_smallest=0, rtol=0.003, density=False
    )
    assert bool(spectrum.largest.converged.all()) is converges
    assert bool(spectrum.notes) is not converges


def test_weyls_bound_holds_for_a_perturbed_matrix_of_which_only_the_error_is_known() -> None:
    matrix = symmetric_with(outliers_and_bulk(120))
    perturbation = symmetric_with(torch.linspace(-0.3, 0.3, 120), seed=5)
    spectrum = measured(matrix + perturbation, 0.3, num_eigenvalues=10, rtol=1e-3, max_hvps=120)
    true = torch.linalg.eigvalsh(matrix).flip(0)[:10]
    assert bool(((spectrum.largest.values - true).abs() <= spectrum.largest.residual_bounds).all())


def test_nothing_within_the_error_of_zero_counts_as_negative() -> None:
    matrix = symmetric_with(outliers_and_bulk(120))
    mass = measured(matrix, 0.2, max_hvps=120, rtol=1e-12, density_rtol=1e-12).negative_mass
    assert mass is not None
    assert math.isclose(mass.threshold, 0.2, rel_tol=1e-3)
    share = float((torch.linalg.eigvalsh(matrix) < -mass.threshold).double().mean())
    assert math.isclose(mass.fraction, share, abs_tol=1e-9)
