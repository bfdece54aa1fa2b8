"""Rough sweeps: eigenvalues refined by exact products, with errors of second order."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_hessian.linalg import CountingOperator, DenseOperator, measure_spectrum
from lightning_hessian.linalg.refinement import RefinedPairs, refine
from lightning_hessian.records import Spectrum
from tests.helpers.spectra import (
    outliers_and_bulk,
    power_law,
    symmetric_indefinite,
    symmetric_with,
)

SIZE = 120


def perturbation(size: int = SIZE) -> Tensor:
    """Symmetric, of norm about one."""
    generator = torch.Generator().manual_seed(5)
    noise = torch.randn(size, size, generator=generator, dtype=torch.float64)
    return (noise + noise.T) / math.sqrt(8 * size)


def rounded(matrix: Tensor) -> Tensor:
    """To the 8 bits of bfloat16, entry by entry."""
    return matrix.bfloat16().to(matrix.dtype)


def refined(matrix: Tensor, vectors: Tensor, num_largest: int, num_smallest: int) -> RefinedPairs:
    return refine(
        DenseOperator(matrix),
        vectors,
        num_largest=num_largest,
        num_smallest=num_smallest,
        rtol=1e-2,
    )


def measured(matrix: Tensor, rough: Tensor, seed: int = 0, **options: Any) -> Spectrum:
    return measure_spectrum(
        DenseOperator(matrix),
        low_precision=DenseOperator(rough),
        generator=torch.Generator().manual_seed(seed),
        **options,
    )


def nearest(values: Tensor, exact: Tensor) -> Tensor:
    return (values[:, None] - exact).abs().min(dim=1).values


def test_errors_are_of_second_order_with_the_derived_constant() -> None:
    # an isolated top: a vector off by e x_j gives u.Au less e^2 sum_j (u_j.E u)^2 / (l - l_j)
    values = torch.cat([torch.linspace(0, 1, SIZE - 1), torch.tensor([3.0])]).double()
    matrix, noise = symmetric_with(values), perturbation()
    spectrum, basis = torch.linalg.eigh(matrix)
    coupling = basis[:, :-1].T @ noise @ basis[:, -1]
    constant = float((coupling.square() / (spectrum[-1] - spectrum[:-1])).sum())
    for size in (1e-3, 1e-4):
        rough = torch.linalg.eigh(matrix + size * noise)
        pairs = refined(matrix, rough.eigenvectors[:, -1:], 1, 0)
        error = float(spectrum[-1] - pairs.largest.values[0])
        # the next order is smaller by the size over the gap of 2
        assert error == pytest.approx(constant * size**2, rel=10 * size)
        # the rough one is off by first order
        first = abs(float(rough.eigenvalues[-1] - spectrum[-1]))
        assert error < 10 * size * first
        assert error <= float(pairs.largest.residual_bounds[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("num_largest", "num_smallest"), [(4, 3), (0, 2), (5, 0)])
def test_pairs_are_ordered_and_have_their_residuals_as_bounds(
    num_largest: int, num_smallest: int, dtype: torch.dtype
) -> None:
    matrix = symmetric_with(symmetric_indefinite(SIZE), dtype=dtype)
    exact, basis = torch.linalg.eigh(matrix.double() + 1e-2 * perturbation())
    ends = torch.cat([basis[:, SIZE - num_largest :], basis[:, :num_smallest]], dim=1)
    # the span counts, not the basis of it
    generator = torch.Generator().manual_seed(1)
    mixing = torch.randn(ends.shape[1], ends.shape[1], generator=generator, dtype=torch.float64)
    mixed = (ends @ mixing).to(dtype)
    pairs = refined(matrix, mixed, num_largest, num_smallest)
    values = torch.cat([pairs.largest.values, pairs.smallest.values])
    bounds = torch.cat([pairs.largest.residual_bounds, pairs.smallest.residual_bounds])
    assert len(values) == num_largest + num_smallest
    assert bool((pairs.largest.values.diff() < 0).all())
    assert bool((pairs.smallest.values.diff() > 0).all())
    images = matrix.double() @ pairs.vectors.double()
    residuals = (images - pairs.vectors.double() * values).norm(dim=0)
    assert bool((residuals <= bounds).all())
    roundings = 200 * torch.finfo(dtype).eps
    assert bool((bounds <= residuals + roundings).all())
    exact = torch.linalg.eigvalsh(matrix.double())
    assert bool((nearest(values, exact) <= bounds).all())
    gram = pairs.vectors.double().T @ pairs.vectors.double()
    torch.testing.assert_close(gram, torch.eye(len(values)).double(), rtol=0, atol=roundings)
    inside = pairs.space.projection
    seen = pairs.space.basis.double() @ matrix.double() @ pairs.space.basis.double().T
    torch.testing.assert_close(inside, seen, rtol=0, atol=roundings)


def test_what_the_products_are_off_by_is_part_of_the_bounds() -> None:
    matrix = symmetric_with(power_law(30))
    vector = torch.linalg.eigh(matrix)[1][:, -1:]
    options: dict[str, Any] = {"num_largest": 1, "num_smallest": 0, "rtol": 1e-2}
    plain, off = (
        refine(DenseOperator(matrix), vector, product_error=error, **options).largest
        for error in (0.0, 0.5)
    )
    assert float(off.residual_bounds - plain.residual_bounds) == pytest.approx(0.5)
    assert bool(plain.converged.all())
    assert not bool(off.converged.any())


@pytest.mark.parametrize(
    "values", [outliers_and_bulk(SIZE), power_law(SIZE), symmetric_indefinite(SIZE)]
)
def test_eigenvalues_of_a_rounded_sweep_lie_within_their_bounds(values: Tensor) -> None:
    matrix = symmetric_with(values)
    rough = rounded(matrix)
    for seed in range(5):
        found = measured(matrix, rough, seed, num_smallest=2)
        both = (found.largest, found.smallest)
        for ends in both:
            assert bool((nearest(ends.values, values) <= ends.residual_bounds + 1e-12).all())
        # what the sweep alone would have said is off by the rounding's norm
        exact = values.sort(descending=True).values[:5]
        limit = float((rough - matrix).norm())
        assert float((found.largest.values - exact).abs().max()) <= limit


@pytest.mark.slow
def test_the_trace_is_unbiased_as_its_probes_are_multiplied_exactly() -> None:
    values = power_law(SIZE)
    matrix = symmetric_with(values)
    rough = matrix + 0.5 * torch.eye(SIZE)  # its trace is 60 larger
    block = torch.arange(40)
    options: dict[str, Any] = {"max_hvps": 40, "num_eigenvalues": 2, "blocks": [block]}
    traces = [measured(matrix, rough, seed, **options).trace for seed in range(100)]
    found = torch.tensor([t.value for t in traces if t is not None])
    error = float(found.std()) / math.sqrt(len(found))
    assert abs(float(found.mean() - values.sum())) < 4 * error
    blocks = torch.stack([t.blocks.values[0] for t in traces if t is not None and t.blocks])
    error = float(blocks.std()) / math.sqrt(len(blocks))
    assert abs(float(blocks.mean() - matrix.diagonal()[block].sum())) < 4 * error


@pytest.mark.parametrize("trace", [True, False])
@pytest.mark.parametrize("num_smallest", [0, 2])
def test_products_are_counted_exact_and_rough(trace: bool, num_smallest: int) -> None:
    matrix = symmetric_with(outliers_and_bulk(SIZE))
    exact, rough = (CountingOperator(DenseOperator(m), None) for m in (matrix, rounded(matrix)))
    told: list[int] = []
    found = measure_spectrum(
        exact,
        low_precision=rough,
        num_eigenvalues=3,
        num_smallest=num_smallest,
        trace=trace,
        vectors=True,
        generator=torch.Generator().manual_seed(0),
        on_products=told.append,
    )
    probes = found.trace.num_probes if found.trace is not None else 0
    assert exact.num_products == 3 + num_smallest + probes
    assert found.num_hvps == exact.num_products + rough.num_products == sum(told) <= 200
    assert found.dimension == 3 + num_smallest
    assert found.vectors is not None
    assert found.vectors.shape == (SIZE, 3 + num_smallest)


def test_the_note_says_how_far_the_refinement_moved_the_eigenvalues() -> None:
    values = outliers_and_bulk(SIZE)
    found = measured(symmetric_with(values), symmetric_with(1.01 * values), num_smallest=0)
    (note,) = [n for n in found.notes if "fewer digits" in n]
    # rough values are 1 % too large, of the largest magnitude itself
    assert "eigenvalues moved by at most 9.9e-03 of the largest magnitude" in note
    assert "the density and the negative share are the sweep's" in note
    assert float(found.largest.values[0]) == pytest.approx(50, rel=1e-6)
    assert found.density is not None
    assert float(found.density.nodes.max()) == pytest.approx(50.5, rel=1e-6)


@pytest.mark.parametrize("size", [1, 2, 5, 8, 30])
def test_small_operators_are_refined_whole_with_each_vector_once(size: int) -> None:
    values = torch.linspace(-2, 3, size, dtype=torch.float64)
    matrix = symmetric_with(values)
    rough = matrix + 1e-3 * perturbation(size)
    found = measured(matrix, rough, num_smallest=4, vectors=True)
    num_largest, count = min(5, size), min(9, size)
    assert found.vectors is not None
    assert found.vectors.shape == (size, count)
    largest = values.flip(0)[:num_largest]
    assert float((found.largest.values - largest).abs().max()) < 1e-3
    leading = found.vectors[:, :num_largest]
    torch.testing.assert_close(matrix @ leading, leading * largest, rtol=0, atol=1e-2)
    assert found.trace is not None
    if count == size:
        assert found.trace.value == pytest.approx(float(values.sum()), abs=1e-12)
        assert found.trace.num_probes == 0


@pytest.mark.parametrize("max_hvps", [25, 30, 36, 40, 60])
def test_there_are_always_exact_probes_left_for_the_trace(max_hvps: int) -> None:
    # a hard spectrum: the sweep would take in all dimensions
    matrix = symmetric_with(symmetric_indefinite(30))
    found = measured(matrix, rounded(matrix), max_hvps=max_hvps, rtol=1e-9)
    assert found.num_hvps <= max_hvps
    assert found.trace is not None
    assert found.trace.num_probes >= 4


def test_a_budget_without_room_for_the_refinement_is_refused() -> None:
    matrix = symmetric_with(power_law(50))
    reason = r"the refinement of 6 eigenvalues, got 12. Give at least 20"
    with pytest.raises(ValueError, match=reason):
        measured(matrix, matrix, max_hvps=12)
    assert measured(matrix, matrix, max_hvps=20).num_hvps <= 20


@pytest.mark.parametrize("options", [{}, {"trace": False, "vectors": True}])
def test_a_hessian_that_is_zero_is_refined_to_zeros(options: dict[str, Any]) -> None:
    matrix = torch.zeros(40, 40, dtype=torch.float64)
    found = measured(matrix, matrix, **options)
    assert found.largest.values.tolist() == [0.0] * 5
    assert bool(found.largest.converged.all())
    (note,) = [n for n in found.notes if n.code == "low-precision-sweep"]
    assert "moved by at most 0.0e+00" in note


def test_without_eigenvalues_there_is_nothing_to_refine() -> None:
    matrix = symmetric_with(power_law(SIZE))
    told: list[int] = []
    found = measured(
        matrix, rounded(matrix), num_eigenvalues=0, num_smallest=0, on_products=told.append
    )
    assert len(found.largest.values) == 0
    assert found.density is not None
    assert found.trace is not None
    # all probes are multiplied by the exact operator, on no known space
    assert found.dimension == 0
    assert min(told) > 0
    assert found.num_hvps == sum(told)
    assert abs(found.trace.value - float(power_law(SIZE).sum())) < 5 * found.trace.standard_error
