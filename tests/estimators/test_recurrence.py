"""The recurrence without a basis: true by weight, whatever ghosts it has."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_hessian.errors import NonFiniteError
from lightning_hessian.linalg import DenseOperator, Recurrence, lanczos_recurrence, rademacher
from lightning_hessian.linalg.basis import FullBasis
from lightning_hessian.linalg.wasserstein import wasserstein_distance
from tests.helpers.held_vectors import DiagonalOperator, HeldVectors
from tests.helpers.spectra import (
    outliers_and_bulk,
    power_law,
    sweep,
    symmetric_indefinite,
    symmetric_with,
)

TYPES = [torch.float32, torch.float64]


def _run(matrix: Tensor, steps: int, *, seed: int = 0, **options: Any) -> Recurrence:
    return lanczos_recurrence(
        DenseOperator(matrix),
        **{
            "num_probes": 3,
            "max_steps": steps,
            "tolerance": 0.0,
            "generator": torch.Generator().manual_seed(seed),
            **options,
        },
    )


def _measure(matrix: Tensor, *, seed: int = 0, count: int = 3) -> tuple[Tensor, Tensor]:
    """Eigenvalues and the weights of the probes that a recurrence with this seed starts from."""
    generator = torch.Generator().manual_seed(seed)
    probes = rademacher(len(matrix), count, generator=generator, dtype=torch.float64)
    values, vectors = torch.linalg.eigh(matrix.double())
    return values, (vectors.T @ probes).square().T / len(matrix)


def test_quadrature_has_the_probes_own_moments_up_to_twice_the_steps() -> None:
    matrix = symmetric_with(symmetric_indefinite(80))
    values, weights = _measure(matrix)
    found = _run(matrix, 5)
    for degree in range(10):
        exact = weights @ values.pow(degree)
        moments = (found.weights * found.nodes.pow(degree)).sum(dim=1)
        torch.testing.assert_close(moments, exact, rtol=0, atol=1e-13)


@pytest.mark.parametrize("dtype", TYPES)
def test_ghosts_of_an_outlier_have_together_its_own_weight(dtype: torch.dtype) -> None:
    values = torch.cat([torch.tensor([10.0, 20.0, 40.0]), torch.linspace(-1, 1, 297)])
    matrix = symmetric_with(values, dtype=dtype)
    exact, weights = _measure(matrix)
    found = _run(matrix, 100)
    for value in (10.0, 20.0, 40.0):
        near = (found.nodes - value).abs() < 1e-3
        # there are copies
        assert int(near.sum(dim=1).min()) > 1
        own = weights[:, (exact - value).abs() < 1e-3].sum(dim=1)
        torch.testing.assert_close((found.weights * near).sum(dim=1), own, rtol=1e-4, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", TYPES)
def test_distribution_is_that_of_the_probe_however_many_ghosts(dtype: torch.dtype) -> None:
    matrix = symmetric_with(outliers_and_bulk(300), dtype=dtype)
    exact, weights = _measure(matrix)
    distances = []
    for steps in (20, 60, 150):
        found = _run(matrix, steps)
        pairs = zip(found.nodes, found.weights, weights, strict=True)
        distances.append(max(wasserstein_distance(n, w, exact, own) for n, w, own in pairs))
    # a Gauss rule of m nodes is within about the range of the bulk over m
    assert distances[0] < 0.7 / 20
    assert distances[1] < 0.7 / 60
    assert distances[2] < 0.7 / 150


def test_density_is_near_that_of_the_full_sweep() -> None:
    values = power_law(300)
    matrix = symmetric_with(values)
    found = _run(matrix, 30, num_probes=4, seed=3)
    density = found.density(torch.zeros(0), bandwidth=0.1)
    space = sweep(matrix, dimension=120, seed=3)
    exact, weights = torch.linalg.eigh(space.projection)
    quadrature = (weights.T @ space.start).square().mean(dim=1) / 300
    # the same probes: the two differ by resolution alone
    distance = wasserstein_distance(density.nodes, density.weights, exact, quadrature)
    assert distance < 1e-3 * 10
    assert float(density.weights.sum()) == pytest.approx(1, abs=1e-12)
    assert density.probe_weights.shape == (120, 4)
    ones = torch.ones(4, dtype=torch.float64)
    torch.testing.assert_close(density.probe_weights.sum(dim=0), ones)


@pytest.mark.parametrize("dtype", TYPES)
def test_deflated_eigenvalues_have_their_exact_mass_and_never_come_back(dtype: torch.dtype) -> None:
    values = torch.cat([torch.tensor([10.0, 20.0, 40.0]), torch.linspace(-1, 1, 297)])
    matrix = symmetric_with(values, dtype=dtype)
    exact, vectors = torch.linalg.eigh(matrix.double())
    basis = FullBasis(300, capacity=3, dtype=dtype, device=matrix.device)
    basis.append(vectors[:, -3:].T.to(dtype))
    found = _run(matrix, 100, deflated=basis)
    assert found.range[1] < 1.01
    assert found.range[0] > -1.01
    density = found.density(exact[-3:], bandwidth=0.1)
    assert density.weights[-3:].tolist() == pytest.approx([1 / 300] * 3, rel=1e-9)
    # the first moments are the probes' quadratic forms on the complement
    moments = found.masses * found.diagonal[:, 0]
    rest = vectors[:, :-3] @ vectors[:, :-3].T
    generator = torch.Generator().manual_seed(0)
    projected = rest @ rademacher(300, 3, generator=generator, dtype=torch.float64)
    forms = (projected * (matrix.double() @ projected)).sum(dim=0)
    assert 70 + float(moments.mean()) == pytest.approx(70 + float(forms.mean()), rel=1e-4)
    torch.testing.assert_close(found.masses, projected.square().sum(dim=0), rtol=1e-5, atol=0)


@pytest.mark.parametrize("dtype", TYPES)
def test_nodes_at_the_ends_are_eigenvalues_within_their_bounds(dtype: torch.dtype) -> None:
    matrix = symmetric_with(outliers_and_bulk(200), dtype=dtype)
    exact = torch.linalg.eigvalsh(matrix.double())
    for steps in (5, 20, 80):
        found = _run(matrix, steps)
        for place in (0, -1):
            distance = (found.nodes[:, place, None] - exact).abs().min(dim=1).values
            assert bool((distance <= found.bounds[:, place]).all())


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("value", [0.0, 1.0, -3.0, 1e-20, 1e20])
def test_multiple_of_the_identity_has_one_node_with_all_the_weight(
    value: float, dtype: torch.dtype
) -> None:
    found = _run(torch.full((50,), value, dtype=dtype).diag(), 4)
    limit = 100 * torch.finfo(dtype).eps * abs(value)
    mean = (found.nodes * found.weights).sum(dim=1)
    assert float((mean - value).abs().max()) <= limit
    assert abs(found.range[1] - value) <= limit + abs(value) * 1e-6


def test_it_stops_when_the_distribution_has_come_to_rest() -> None:
    matrix = symmetric_with(outliers_and_bulk(400))
    found = _run(matrix, 400, tolerance=1e-3)
    assert found.nodes.shape[1] < 60
    assert found.moved < 1e-3
    # relative to a wider range it is settled earlier
    assert _run(matrix, 400, tolerance=1e-3, extent=1e4).num_hvps < found.num_hvps


@pytest.mark.parametrize("steps", [4, 20])
def test_three_vectors_are_held_for_each_probe(steps: int) -> None:
    size, count = 200_000, 4
    operator = DiagonalOperator(size)
    with HeldVectors(size, 4) as held:
        lanczos_recurrence(
            operator,
            num_probes=count,
            max_steps=steps,
            tolerance=0.0,
            generator=torch.Generator().manual_seed(0),
        )
    # a fourth block is the operator's, or a sum under way
    assert held.peak <= 4 * count


def test_non_finite_products_are_refused() -> None:
    class Broken(DenseOperator):
        def matmat(self, vectors: Tensor) -> Tensor:
            return super().matmat(vectors) * float("nan")

    with pytest.raises(NonFiniteError, match="Hessian-vector product holds NaN or infinity"):
        lanczos_recurrence(
            Broken(torch.eye(9)), num_probes=1, max_steps=3, generator=torch.Generator()
        )


def test_wrong_numbers_are_refused() -> None:
    matrix = torch.eye(4)
    with pytest.raises(ValueError, match=r"`num_probes` and `max_steps` must be .* got 0 and 3"):
        _run(matrix, 3, num_probes=0)
    with pytest.raises(ValueError, match=r"`num_probes` and `max_steps` must be .* got 3 and 0"):
        _run(matrix, 0)
    basis = FullBasis(4, capacity=4, dtype=matrix.dtype, device=matrix.device)
    basis.append(torch.eye(4))
    with pytest.raises(ValueError, match=r"`deflated` must leave something .* got 4 vectors"):
        _run(matrix, 3, deflated=basis)
    with pytest.raises(ValueError, match=r"`eigenvalues` must be those of the 0 .* got 2 of them"):
        _run(matrix, 3).density(torch.ones(2), bandwidth=0.1)
