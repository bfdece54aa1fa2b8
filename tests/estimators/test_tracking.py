"""A handful of products: bounds, following a moving matrix, and the trace's calibration."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lightning_hessian.errors import NonFiniteError
from lightning_hessian.linalg import (
    CountingOperator,
    DenseOperator,
    TrackedSpace,
    tracked_space,
    tracked_trace,
)
from tests.helpers.seeds import part_of

SIZE = 300
STEPS = torch.arange(1, SIZE + 1, dtype=torch.float64)
SPECTRA = {
    "flat": torch.linspace(0, 1, SIZE, dtype=torch.float64),
    "power law": 1 / STEPS,
    "lone outlier": torch.cat([torch.tensor([30.0]), torch.linspace(0, 0.1, SIZE - 1)]).double(),
    "classes": torch.cat(
        [torch.tensor([60.0, 52, 24, 18, 14, 11, 9, 7, 5]), torch.linspace(0, 0.1, SIZE - 9)]
    ).double(),
    "of both signs": torch.cat([torch.tensor([10.0, 8, 5, -4, -6]), 0.01 * STEPS[5:]]).double(),
}


def rotated(values: Tensor, seed: int = 0) -> tuple[DenseOperator, Tensor]:
    """With known eigenvectors that are no unit vectors, of which signs would see too much."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(len(values), len(values), generator=generator, dtype=torch.float64)
    vectors = torch.linalg.qr(noise)[0]
    return DenseOperator((vectors * values) @ vectors.T), vectors


def near(vectors: Tensor, seed: int, angle: float = 0.3) -> Tensor:
    """Guesses of some vectors."""
    noise = torch.randn(vectors.shape, generator=torch.Generator().manual_seed(seed)).double()
    return torch.linalg.qr(vectors + angle * noise / math.sqrt(len(vectors)))[0]


def tracked(operator: DenseOperator, seed: int = 0, **options: object) -> TrackedSpace:
    generator = torch.Generator().manual_seed(seed)
    return tracked_space(operator, generator=generator, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [1, 2, 5, 9])
@pytest.mark.parametrize("is_recycled", [False, True])
def test_there_are_as_many_products_as_allowed_and_the_matrices_are_of_them(
    count: int, is_recycled: bool
) -> None:
    operator, vectors = rotated(SPECTRA["classes"])
    counting, told = CountingOperator(operator), []
    space = tracked(
        counting,  # type: ignore[arg-type]
        num_products=count,
        recycled=near(vectors[:, :3], 1) if is_recycled else None,
        on_products=told.append,
    )
    assert counting.num_products == space.dimension == sum(told) == count
    basis, images = space.basis.rows().T, space.images.rows().T
    # rounding of a norm of 60
    exact = {"rtol": 0, "atol": 1e-11}
    torch.testing.assert_close(basis.T @ basis, torch.eye(count).double(), **exact)
    torch.testing.assert_close(images, operator.matmat(basis), **exact)
    torch.testing.assert_close(space.projection, basis.T @ images, **exact)
    values, coordinates, residuals = space.ritz()
    found = basis @ coordinates
    explicit = (operator.matmat(found) - values * found).norm(dim=0)
    torch.testing.assert_close(residuals, explicit, rtol=1e-6, atol=1e-10)
    distances = (values[:, None] - SPECTRA["classes"]).abs().min(dim=1).values
    assert bool((distances <= residuals).all())
    assert float(values[0]) <= 60 * (1 + 1e-12)


def test_a_recycled_vector_saves_products_and_a_new_leading_one_is_not_missed() -> None:
    values = SPECTRA["classes"]
    operator, vectors = rotated(values)
    fresh = [float(tracked(operator, s, num_products=4).ritz()[2][0]) for s in range(10)]
    guess = near(vectors[:, :1], 5)
    kept = [
        float(tracked(operator, s, num_products=4, recycled=guess).ritz()[2][0]) for s in range(10)
    ]
    assert sum(kept) < 0.5 * sum(fresh)
    # the vector recycled is exactly the eigenvector that has been overtaken
    overtaken = vectors[:, 2:3]
    found = [tracked(operator, s, num_products=6, recycled=overtaken) for s in range(10)]
    assert min(float(space.ritz()[0][0]) for space in found) > 0.9 * 60


def test_a_power_step_turns_the_vector_further() -> None:
    operator, vectors = rotated(SPECTRA["power law"])
    space = tracked(operator, num_products=3, recycled=near(vectors[:, :1], 3))
    coordinates = space.ritz()[1][:, :2]
    before, after = space.basis.combine(coordinates), space.followed(coordinates)
    torch.testing.assert_close(after.T @ after, torch.eye(2).double())
    assert abs(float(after[:, 0] @ vectors[:, 0])) > abs(float(before[:, 0] @ vectors[:, 0]))


def test_single_products_are_the_power_method() -> None:
    operator, vectors = rotated(SPECTRA["power law"])
    recycled = None
    for step in range(12):
        space = tracked(operator, step, num_products=1, recycled=recycled)
        recycled = space.followed(space.ritz()[1])
    assert recycled is not None
    assert abs(float(recycled[:, 0] @ vectors[:, 0])) > 0.99


@pytest.mark.slow
@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("count", [2, 3, 4, 6])
@pytest.mark.parametrize("is_recycled", [False, True])
def test_the_trace_is_unbiased_and_its_interval_covers(
    spectrum: str, count: int, is_recycled: bool
) -> None:
    values = SPECTRA[spectrum]
    operator, vectors = rotated(values)
    truth, draws = float(values.sum()), part_of(200)
    errors, held = [], 0
    for seed in range(draws):
        guesses = near(vectors[:, :4], 1000 + seed)
        # a fifth off, as of a report before
        noise = torch.randn(4, generator=torch.Generator().manual_seed(seed)).double()
        options = {"recycled": guesses, "recycled_values": values[:4] * (1 + 0.2 * noise)}
        space = tracked(operator, seed, num_products=count, **(options if is_recycled else {}))
        found = tracked_trace(space, rtol=0.05)
        errors.append(found.value - truth)
        held += found.interval[0] <= truth <= found.interval[1]
    deviation = torch.tensor(errors)
    assert abs(float(deviation.mean())) < 3.5 * float(deviation.std()) / math.sqrt(draws)
    # four deviations below 95 %; where all is on the diagonal or in sight, signs are better
    assert held >= 0.95 * draws - 4 * math.sqrt(0.95 * 0.05 * draws)


def test_vectors_without_a_product_make_the_trace_better() -> None:
    values = SPECTRA["classes"]
    operator, vectors = rotated(values)
    guesses = near(vectors[:, :5], 1)
    errors = {}
    for name, known in (("with", values[:5]), ("without", None)):
        spaces = (
            tracked(operator, s, num_products=4, recycled=guesses, recycled_values=known)
            for s in range(100)
        )
        traces = [tracked_trace(space, rtol=0.05) for space in spaces]
        errors[name] = torch.tensor([found.value for found in traces]).std()
    # guesses at 0.3 leave sqrt(2) 0.3 of the four outliers after the first, and what is below
    assert errors["with"] < 0.6 * errors["without"]


def test_of_a_space_that_is_everything_all_is_exact() -> None:
    values = torch.tensor([4.0, 2, 1, -1, -3]).double()
    operator, _ = rotated(values)
    space = tracked(operator, num_products=9)
    assert space.is_whole
    torch.testing.assert_close(space.ritz()[0], values, rtol=0, atol=1e-12)
    found = tracked_trace(space, rtol=0.05)
    assert (found.value, found.num_probes, found.converged) == (pytest.approx(3.0), 0, True)


def test_an_invariant_space_ends_the_products() -> None:
    space = tracked(DenseOperator(torch.zeros(20, 20)), num_products=5)
    assert space.dimension == 1
    assert float(space.ritz()[0][0]) == 0
    vector = space.followed(space.ritz()[1])
    assert float(vector.norm()) == pytest.approx(1)


def test_a_seed_gives_the_same_bits() -> None:
    operator, _ = rotated(SPECTRA["classes"])
    first, second = (tracked(operator, 3, num_products=5) for _ in range(2))
    assert torch.equal(first.basis.rows(), second.basis.rows())
    assert torch.equal(first.projection, second.projection)


def test_arguments_that_do_not_fit_are_refused() -> None:
    operator, vectors = rotated(SPECTRA["classes"])
    with pytest.raises(ValueError, match="`num_products` must be at least 1, got 0"):
        tracked(operator, num_products=0)
    with pytest.raises(ValueError, match=r"`recycled` must have shape \(300, d\), got \(299, 1\)"):
        tracked(operator, num_products=2, recycled=vectors[:-1, :1])
    with pytest.raises(ValueError, match="`recycled` must be linearly independent"):
        tracked(operator, num_products=2, recycled=vectors[:, [0, 0]])
    with pytest.raises(ValueError, match="without a probe there is no trace"):
        tracked_trace(tracked(operator, num_products=1, recycled=vectors[:, :1]), rtol=0.05)
    with pytest.raises(NonFiniteError, match="holds NaN or infinity"):
        tracked(DenseOperator(torch.full((3, 3), math.inf)), num_products=2)
