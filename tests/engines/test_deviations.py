"""What the notes say of PyHessian is what it does."""

from __future__ import annotations

import pytest
import torch

from lightning_hessian import PyHessian
from lightning_hessian.engines import KNOWN_DIFFERENCES
from tests.engines.test_truth import PRECISE, of_matrices


def diagonal(*values: float) -> torch.Tensor:
    return torch.diag(torch.tensor(values, dtype=torch.float64))


@pytest.mark.parametrize("quantity", ["eigenvalues", "trace", "density"])
def test_notes_name_the_engine_and_the_deviations_of_what_was_asked(quantity: str) -> None:
    wanted = {"num_eigenvalues" if quantity == "eigenvalues" else quantity: 1}
    first, *rest = of_matrices(diagonal(1, 2), **wanted).notes
    assert first == "Measured by PyHessian 0.1, with its own stopping rules."
    assert tuple(rest) == KNOWN_DIFFERENCES[quantity]  # type: ignore[index]


def test_tolerance_of_the_quotient_is_not_its_error() -> None:
    # the ratio 0.99 gains 1 % of the error in a product, so a step of 1e-3 leaves far more
    values = torch.linspace(0.5, 1, 51).tolist()
    found = of_matrices(diagonal(*values), num_eigenvalues=1).largest.values
    assert 2e-3 < 1 - float(found) < 5e-2


def first_quotient(matrix: torch.Tensor) -> float:
    """Of the vector that PyHessian begins with after a seed of 3."""
    generator = torch.Generator().manual_seed(3)
    v = torch.randn(len(matrix), generator=generator, dtype=torch.float64)
    return float(v @ matrix @ v / v.square().sum())


def test_opposite_eigenvalues_of_equal_magnitude_give_a_value_between() -> None:
    # every product turns (a, b) into (a, -b): the quotient stays what it is
    matrix = diagonal(1, -1)
    spectrum = of_matrices(matrix, solver=PRECISE, num_eigenvalues=1)
    found = float(torch.cat([spectrum.largest.values, spectrum.smallest.values]))
    assert found == pytest.approx(first_quotient(matrix), rel=1e-5)
    assert abs(found) < 0.95


def test_tiny_eigenvalue_is_the_quotient_of_a_random_vector() -> None:
    matrix = 1e-10 * diagonal(*torch.linspace(0.1, 1, 30).tolist())
    found = float(of_matrices(matrix, num_eigenvalues=1).largest.values)
    assert found == pytest.approx(first_quotient(matrix), rel=1e-5)
    assert found < 0.8e-10


def test_part_of_an_eigenvalue_comes_out_again_where_the_rest_is_zero() -> None:
    found = of_matrices(diagonal(6, 6, 0, 0, 0, 0), solver=PRECISE, num_eigenvalues=3)
    assert found.largest.values[:2].tolist() == pytest.approx([6, 6], rel=1e-5)
    assert float(found.largest.values[2]) > 0.1


@pytest.mark.slow
def test_trace_that_two_equal_probes_end_has_no_scatter_and_is_wrong() -> None:
    # v.Av is 4 or 0, each with the same chance; the trace is 2
    matrix = torch.ones(2, 2, dtype=torch.float64)
    estimates = [of_matrices(matrix, trace=True, seed=seed).trace for seed in range(12)]
    early = [e for e in estimates if e is not None and e.num_probes == 2]
    assert early
    for estimate in early:
        assert (estimate.value, estimate.standard_error) == (4, 0)


def test_negative_trace_stops_at_the_second_probe() -> None:
    matrix = -torch.ones(8, 8, dtype=torch.float64) - diagonal(*range(8))
    estimate = of_matrices(matrix, trace=True, solver=PyHessian(trace_tol=0)).trace
    assert estimate is not None
    assert estimate.num_probes == 2


def test_density_of_a_narrow_spectrum_is_distorted() -> None:
    matrix = diagonal(*torch.linspace(0, 1, 20).tolist())
    largest = [
        float(density.nodes[-1]) / scale
        for scale in (1.0, 1e-6)
        if (density := of_matrices(scale * matrix, density=True).density) is not None
    ]
    assert largest[0] == pytest.approx(1, rel=1e-5)
    assert not 0.95 < largest[1] < 1.05
