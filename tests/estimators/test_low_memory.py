"""The spectrum within a memory limit: the same numbers, from fewer vectors, and it is said."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor

from lightning_hessian.linalg import DenseOperator, measure_spectrum
from lightning_hessian.linalg import basis as basis_module
from lightning_hessian.records import Spectrum
from tests.helpers.held_vectors import DiagonalOperator, HeldVectors
from tests.helpers.spectra import (
    outliers_and_bulk,
    power_law,
    symmetric_indefinite,
    symmetric_with,
)

SIZE = 400
SPECTRA = {
    "outliers": outliers_and_bulk(SIZE),
    "power law": power_law(SIZE),
    "indefinite": symmetric_indefinite(SIZE),
}


def _measure(
    values: Tensor, *, vectors: int | None = None, seed: int = 0, **options: Any
) -> Spectrum:
    limit = None if vectors is None else vectors * len(values) * 8
    return measure_spectrum(
        DenseOperator(symmetric_with(values)),
        generator=torch.Generator().manual_seed(seed),
        memory_limit=limit,
        **options,
    )


@pytest.mark.parametrize("name", SPECTRA)
def test_numbers_are_those_of_the_matrix(name: str) -> None:
    values = SPECTRA[name]
    exact = values.sort().values
    found = _measure(values, vectors=44, max_hvps=300)
    for ends in (found.largest, found.smallest):
        distance = (ends.values[:, None] - exact).abs().min(dim=1).values
        assert bool((distance <= ends.residual_bounds).all())
    assert found.trace is not None
    assert abs(found.trace.value - float(values.sum())) < 4 * found.trace.standard_error
    assert found.density is not None
    assert found.negative_mass is not None
    lower, upper = found.negative_mass.bracket
    assert lower <= float((values < -found.negative_mass.threshold).double().mean()) <= upper
    assert any("`memory_limit` has no room for the basis of a full sweep" in n for n in found.notes)


@pytest.mark.parametrize("name", ["outliers", "power law"])
def test_density_is_as_near_to_the_truth_as_that_of_the_full_sweep(name: str) -> None:
    values = SPECTRA[name]
    exact = values.sort().values
    for vectors in (None, 44):
        density = _measure(values, vectors=vectors, max_hvps=300, trace=False).density
        assert density is not None
        moved = stats.wasserstein_distance(density.nodes, exact, density.weights)
        assert moved < 2e-3 * float(exact[-1] - exact[0])


def test_a_basis_that_fits_is_kept_in_full() -> None:
    plain = _measure(SPECTRA["outliers"])
    limited = _measure(SPECTRA["outliers"], vectors=216)
    assert torch.equal(plain.largest.values, limited.largest.values)
    assert plain.num_hvps == limited.num_hvps
    assert limited.notes == plain.notes
    # in half the bytes half as much will do, on the host none is needed
    for basis, vectors in (("bfloat16", 16 + 50), ("cpu", 1)):
        found = _measure(SPECTRA["outliers"], vectors=vectors, basis=basis)
        assert not any("memory_limit" in note for note in found.notes)


@pytest.mark.slow
@pytest.mark.parametrize("name", SPECTRA)
def test_interval_of_the_trace_covers_it(name: str) -> None:
    # a true 95 % of 200 gives 190 hits with a deviation of 3; Student's t of the pilot is wider
    values, hits = SPECTRA[name], 0
    operator = DenseOperator(symmetric_with(values))
    for seed in range(200):
        estimate = measure_spectrum(
            operator,
            generator=torch.Generator().manual_seed(seed),
            memory_limit=44 * SIZE * 8,
            density=False,
            max_hvps=48,
        ).trace
        assert estimate is not None
        hits += estimate.interval[0] <= float(values.sum()) <= estimate.interval[1]
    assert 0.90 * 200 <= hits <= 0.995 * 200


@pytest.mark.parametrize(
    ("limit", "width", "num_eigenvalues", "num_smallest"),
    # in the third the eigenvectors that are given away fill a third of it
    [(13, 1, 5, 1), (15, 4, 5, 1), (40, 1, 10, 2), (40, 4, 5, 1)],
)
def test_memory_stays_within_the_limit(
    limit: int,
    width: int,
    num_eigenvalues: int,
    num_smallest: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    size = 4_000
    monkeypatch.setattr(basis_module, "TILE", 500)
    operator = DiagonalOperator(size)
    with HeldVectors(size, 4) as held:
        found = measure_spectrum(
            operator,
            num_eigenvalues=num_eigenvalues,
            num_smallest=num_smallest,
            generator=torch.Generator().manual_seed(0),
            memory_limit=limit * 4 * size,
            max_hvps=40,
            probes_per_block=width,
            vectors=True,
        )
    assert found.density is not None
    assert held.peak <= limit


@pytest.mark.parametrize("max_hvps", [8, 23, 48, 201])
@pytest.mark.parametrize("density", [True, False])
def test_budget_is_kept_and_the_count_is_true(max_hvps: int, density: bool) -> None:
    told: list[int] = []
    found = _measure(
        SPECTRA["indefinite"],
        vectors=40,
        max_hvps=max_hvps,
        density=density,
        on_products=told.append,
    )
    assert found.num_hvps == sum(told) <= max_hvps


@pytest.mark.parametrize(("num_eigenvalues", "num_smallest"), [(0, 0), (0, 2), (3, 0)])
def test_what_is_not_asked_for_is_not_given(num_eigenvalues: int, num_smallest: int) -> None:
    found = _measure(
        SPECTRA["outliers"],
        vectors=40,
        num_eigenvalues=num_eigenvalues,
        num_smallest=num_smallest,
        density=False,
    )
    assert len(found.largest.values) == num_eigenvalues
    assert len(found.smallest.values) == num_smallest
    assert found.density is None
    assert found.negative_mass is None


@pytest.mark.parametrize(
    ("vectors", "ends", "cut_down"),
    [
        (30, (5, 1), set()),
        (20, (5, 1), {"narrower-blocks"}),
        (15, (2, 1), {"narrower-blocks", "fewer-eigenvalues"}),
        (13, (1, 0), {"narrower-blocks", "fewer-eigenvalues"}),
    ],
)
@pytest.mark.parametrize(
    "name",
    [
        "indefinite",
        pytest.param("outliers", marks=pytest.mark.slow),
        pytest.param("power law", marks=pytest.mark.slow),
    ],
)
def test_ever_smaller_limits_have_fewer_numbers_and_none_that_is_wrong(
    name: str, vectors: int, ends: tuple[int, int], cut_down: set[str]
) -> None:
    values = SPECTRA[name]
    exact = values.sort().values
    found = _measure(values, vectors=vectors, max_hvps=400)
    assert (len(found.largest.values), len(found.smallest.values)) == ends
    notes = {note.code: note for note in found.notes}
    assert {code for code in notes if code in ("narrower-blocks", "fewer-eigenvalues")} == cut_down
    if "fewer-eigenvalues" in cut_down:
        text = f"5 largest and 1 smallest eigenvalues: {ends[0]} and {ends[1]} of them are measured"
        assert text in notes["fewer-eigenvalues"]
    for pairs in (found.largest, found.smallest):
        distance = (pairs.values[:, None] - exact).abs().min(dim=1).values
        assert bool((distance <= pairs.residual_bounds).all())
    # the tolerance of a bound, which is that of the range
    extent = float(exact[-1] - exact[0])
    assert abs(float(found.largest.values[0] - exact[-1])) <= 0.02 * extent
    assert found.trace is not None
    assert abs(found.trace.value - float(values.sum())) < 5 * found.trace.standard_error
    assert found.density is not None
    moved = stats.wasserstein_distance(found.density.nodes, exact, found.density.weights)
    assert moved < 0.03 * extent


def test_the_smallest_eigenvalue_stays_where_it_alone_is_asked_for() -> None:
    values = SPECTRA["indefinite"]
    options = {"num_eigenvalues": 0, "num_smallest": 2, "max_hvps": 400, "trace": False}
    found = _measure(values, vectors=13, density=False, **options)
    assert len(found.smallest.values) == 1
    away = abs(float(found.smallest.values[0] - values.min()))
    assert away <= 0.02 * float(values.max() - values.min())


def test_limit_without_room_for_one_end_is_refused() -> None:
    match = r"`memory_limit` must be at least 41600 bytes, for 3 basis vectors .* got 38400"
    with pytest.raises(ValueError, match=match):
        _measure(SPECTRA["outliers"], vectors=12)


def test_budget_without_room_for_restarts_and_recurrence_is_refused() -> None:
    match = r"`max_hvps` must be at least 4 within a memory limit .* got 3"
    with pytest.raises(ValueError, match=match):
        _measure(SPECTRA["outliers"], vectors=12, max_hvps=3, probes_per_block=1)
