"""Sampling errors against every subset of a small population, and their coverage over draws."""

from __future__ import annotations

import math
from itertools import pairwise, permutations, product
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_hessian.hvp import AlongVectors, per_batch_products
from lightning_hessian.linalg import rademacher
from lightning_hessian.records import SamplingError
from lightning_hessian.studies import sampling_error
from lightning_hessian.studies.batch_statistics import trace_variance
from lightning_hessian.studies.sampling_error import repulsion
from tests.helpers.dense_samples import DenseSamples, random_hessians, subsets

SIZE, POPULATION = 3, 7
HESSIANS = random_hessians(POPULATION, SIZE)


def eigenvectors(hessian: Tensor) -> Tensor:
    """All, of the largest eigenvalue first."""
    return torch.linalg.eigh(hessian)[1].flip(1)


def measured(loss: Any, **options: Any) -> SamplingError:
    """From all eigenvectors, which are a known basis of everything."""
    vectors = eigenvectors(loss.mean)
    return sampling_error(loss, vectors, **({"num_largest": loss.size} | options))


def singly(chosen: Tensor) -> DenseSamples:
    return DenseSamples.dealt(HESSIANS, chosen, len(chosen))


@pytest.mark.parametrize("count", [3, 4, 6])
def test_the_trace_error_squared_is_on_average_the_variance_over_all_subsets(count: int) -> None:
    chosen = subsets(POPULATION, count)
    found = [measured(singly(c), population=POPULATION).trace_error ** 2 for c in chosen]
    traces = torch.stack([HESSIANS[c].mean(dim=0).trace() for c in chosen])
    assert sum(found) / len(found) == pytest.approx(float(traces.var(correction=0)), rel=1e-12)


def test_batches_of_unequal_sizes_give_an_unbiased_trace_error_too() -> None:
    sizes = [1, 1, 2]
    found = []
    for order in permutations(range(5), sum(sizes)):
        loss = DenseSamples(HESSIANS, torch.tensor(order).split(sizes))
        _, table = per_batch_products(loss, torch.eye(SIZE).double())
        found.append(trace_variance(table.along, None))
    traces = HESSIANS[:5].diagonal(dim1=1, dim2=2).sum(dim=1)
    assert sum(found) / len(found) == pytest.approx(float(traces.var()), rel=1e-12)


def test_the_variance_of_the_trace_is_too_large_by_the_noise_of_the_probes_and_no_more() -> None:
    # without known vectors; the mean over all pairs of the 2^3 sign vectors is the expectation
    loss = singly(torch.arange(5))
    signs = torch.tensor(list(product([-1.0, 1.0], repeat=SIZE))).double()
    none = torch.empty(SIZE, 0).double()
    _, table = per_batch_products(loss, none)
    estimates = []
    for first, second in product(signs, signs):
        _, seen = per_batch_products(loss, torch.stack([first, second], dim=1))
        estimates.append(trace_variance(table.along, seen.along))
    deviations = HESSIANS[:5] - HESSIANS[:5].mean(dim=0)
    exact = deviations.diagonal(dim1=1, dim2=2).sum(dim=1).square().sum() / 4
    off_diagonal = deviations.square().sum() - deviations.diagonal(dim1=1, dim2=2).square().sum()
    wanted = float(exact + 2 * off_diagonal / 4 / 2)
    assert sum(estimates) / len(estimates) == pytest.approx(wanted, rel=1e-12)


def test_the_largest_eigenvalue_of_a_subset_is_too_large_on_average() -> None:
    truth = float(torch.linalg.eigvalsh(HESSIANS.mean(dim=0))[-1])
    means = [
        float(torch.linalg.eigvalsh(torch.stack([HESSIANS[c].mean(0) for c in some]))[:, -1].mean())
        for some in (subsets(POPULATION, count) for count in range(1, POPULATION + 1))
    ]
    assert all(a > b for a, b in pairwise(means))
    assert means[-1] == pytest.approx(truth)


@pytest.mark.parametrize("count", [4, 6])
def test_errors_and_biases_are_those_over_all_subsets_to_second_order(count: int) -> None:
    # relative corrections are of the order of the scatter over the gaps, 1e-4
    hessians = random_hessians(POPULATION, SIZE, spread=1e-4)
    truth = torch.linalg.eigvalsh(hessians.mean(dim=0)).flip(0)
    values, biases, variances, losses = [], [], [], []
    for chosen in subsets(POPULATION, count):
        loss = DenseSamples.dealt(hessians, chosen, count)
        found = measured(loss, population=POPULATION)
        values.append(torch.linalg.eigvalsh(loss.mean).flip(0))
        biases.append(found.eigenvalue_biases)
        variances.append(found.eigenvalue_errors**2)
        leading = eigenvectors(loss.mean)[:, 0]
        losses.append(truth[0] - leading @ hessians.mean(dim=0) @ leading)
    spectra, bias = torch.stack(values), torch.stack(biases).mean(dim=0)
    torch.testing.assert_close(bias, spectra.mean(dim=0) - truth, rtol=1e-2, atol=1e-13)
    expected = spectra.var(dim=0, correction=0)
    torch.testing.assert_close(torch.stack(variances).mean(dim=0), expected, rtol=1e-2, atol=0)
    # as much as the subset's own vector loses on everything
    assert float(bias[0]) == pytest.approx(float(torch.stack(losses).mean()), rel=1e-2)


def test_few_vectors_with_the_range_of_the_rest_bound_the_bias_of_all() -> None:
    hessians = random_hessians(40, 8)
    loss = DenseSamples.dealt(hessians, torch.arange(20), 10)
    values, vectors = torch.linalg.eigh(loss.mean)
    whole = sampling_error(loss, vectors.flip(1), num_largest=8, population=40)
    ends = torch.cat([vectors[:, -2:].flip(1), vectors[:, :1]], dim=1)
    rest = (float(values[1]), float(values[-3]))
    few = sampling_error(loss, ends, num_largest=2, rest=rest, population=40)
    torch.testing.assert_close(few.eigenvalue_errors, whole.eigenvalue_errors[:2])
    torch.testing.assert_close(few.smallest_errors, whole.eigenvalue_errors[-1:])
    assert few.eigenvalue_biases[0] > whole.eigenvalue_biases[0] > 0
    assert few.smallest_biases[0] < whole.eigenvalue_biases[-1] < 0
    unknown = sampling_error(loss, ends, num_largest=2, population=40)
    assert few.eigenvalue_biases[0] < unknown.eigenvalue_biases[0] < math.inf
    assert math.isnan(few.trace_error)
    assert math.isnan(few.density_distance)


@pytest.mark.parametrize("count", [3, 5])
def test_the_interval_reaches_down_by_the_bias_on_either_side_and_as_far_up_as_chance(
    count: int,
) -> None:
    # exact vectors: no residual; Student's t for as many batches, from a table
    loss = singly(torch.arange(count))
    found = measured(loss, population=POPULATION)
    value = float(torch.linalg.eigvalsh(loss.mean)[-1])
    margin = {3: 4.302653, 5: 2.776445}[count] * float(found.eigenvalue_errors[0])
    low, high = found.largest_interval
    assert high == pytest.approx(value + margin, rel=1e-6)
    assert low == pytest.approx(value - margin - 2 * float(found.eigenvalue_biases[0]), rel=1e-6)
    assert float(found.eigenvalue_biases[0]) > 0


def test_repelled_levels_are_those_of_the_two_by_two_matrix() -> None:
    for gap, coupling in ((0.0, 0.3), (1.0, 0.3), (1e6, 1e-3)):
        pair = torch.tensor([[gap, coupling], [coupling, 0.0]]).double()
        found = repulsion(torch.tensor(gap).double(), torch.tensor(coupling).double())
        assert float(found) == pytest.approx(float(torch.linalg.eigvalsh(pair)[1]) - gap, abs=1e-9)
    assert float(repulsion(torch.zeros(()), torch.zeros(()))) == 0


@pytest.mark.parametrize("num_batches", [1, 5])
def test_of_the_whole_population_nothing_is_left_open(num_batches: int) -> None:
    loss = DenseSamples.dealt(HESSIANS, torch.arange(POPULATION), num_batches)
    found = measured(loss, population=POPULATION)
    assert (found.trace_error, found.density_distance, found.notes) == (0, 0, ())
    assert not found.eigenvalue_errors.any()
    assert not found.eigenvalue_biases.any()
    top = float(torch.linalg.eigvalsh(loss.mean)[-1])
    assert found.largest_interval == pytest.approx((top, top), rel=1e-12)
    assert found.required_samples(largest=1e-9, trace=1e-9, density=1e-9) == POPULATION


def test_the_interval_holds_the_residual_of_a_vector_that_is_none_of_the_eigenvectors() -> None:
    loss = singly(torch.arange(POPULATION))
    vector = torch.nn.functional.normalize(torch.tensor([[0.1], [0.1], [1.0]]).double(), dim=0)
    found = sampling_error(loss, vector, num_largest=1, population=POPULATION)
    quotient = float((vector.T @ loss.mean @ vector)[0, 0])
    residual = float((loss.mean @ vector - quotient * vector).norm())
    assert found.largest_interval == pytest.approx((quotient, quotient + residual))


def test_too_few_or_few_batches_or_batches_in_order_are_said() -> None:
    two = measured(DenseSamples.dealt(HESSIANS, torch.arange(POPULATION), 2))
    assert "at least 3 batches, but the frozen samples make 2. Give a smaller" in two.notes[0]
    assert all(math.isnan(x) for x in (two.trace_error, two.density_distance, two.largest_margin))
    assert two.required_samples(trace=1.0) == 2 * POPULATION
    assert two.required_samples() == POPULATION
    loss = singly(torch.arange(POPULATION))
    assert "from 7 batches are themselves uncertain by 29%" in measured(loss).notes[0]
    object.__setattr__(loss.sample, "are_drawn", False)
    assert "the frozen batches were not drawn at random" in measured(loss).notes[1]


def test_arguments_that_do_not_fit_are_refused() -> None:
    loss = singly(torch.arange(POPULATION))
    with pytest.raises(ValueError, match=r"`population` must be at least the 7 samples .* got 6"):
        measured(loss, population=6)
    with pytest.raises(ValueError, match=r"`num_largest` must be between 1 and the 3 .* got 4"):
        measured(loss, num_largest=4)
    with pytest.raises(ValueError, match="`vectors` must be orthonormal"):
        sampling_error(loss, torch.ones(3, 1), num_largest=1)
    with pytest.raises(ValueError, match="`trace` must be a positive tolerance, got 0"):
        measured(loss).required_samples(trace=0)


@pytest.mark.parametrize("population", [None, 400])
def test_required_samples_bring_the_errors_to_the_tolerances(population: int | None) -> None:
    hessians = random_hessians(100, SIZE, spread=3.0)
    found = measured(DenseSamples.dealt(hessians, torch.arange(100), 20), population=population)
    now = 1 / 100 - (1 / population if population else 0)

    def share(count: int) -> float:
        return (1 / count - (1 / population if population else 0)) / now

    bias = float(found.eigenvalue_biases[0])
    laws = {
        "trace": lambda f: math.sqrt(f) * found.trace_error,
        "density": lambda f: math.sqrt(f) * found.density_distance,
        "largest": lambda f: f * bias + math.sqrt(f) * (found.largest_margin - bias),
    }
    needed = []
    for name, law in laws.items():
        tolerance = law(1.0) / 3
        count = found.required_samples(**{name: tolerance})
        assert law(share(count)) <= tolerance * (1 + 1e-9) < law(share(count - 1))
        assert found.required_samples(**{name: 1.001 * law(1.0)}) == 100
        needed.append(count)
    together = {name: law(1.0) / 3 for name, law in laws.items()}
    assert found.required_samples(**together) == max(needed)


def draws(repetitions: int, count: int, seed: int) -> tuple[list[SamplingError], Tensor, Tensor]:
    """Errors from random subsets by four vectors and six probes, with the subsets' spectra."""
    hessians = random_hessians(600, 12, spread=4.0) + 2 * random_hessians(600, 12, seed=1) ** 2
    generator = torch.Generator().manual_seed(seed)
    found, spectra = [], []
    for _ in range(repetitions):
        order = torch.randperm(len(hessians), generator=generator)[:count]
        loss: Any = DenseSamples.dealt(hessians, order, 25)
        values, vectors = torch.linalg.eigh(loss.mean)
        vectors, rest = vectors[:, -4:].flip(1), (float(values[0]), float(values[-5]))
        probes = rademacher(12, 6, generator=generator, dtype=torch.float64)
        probes -= vectors @ (vectors.T @ probes)
        seen: AlongVectors = per_batch_products(loss, probes)[1].along
        found.append(
            sampling_error(loss, vectors, num_largest=4, rest=rest, probes=seen, population=600)
        )
        spectra.append(values)
    return found, torch.stack(spectra), torch.linalg.eigvalsh(hessians.mean(dim=0))


@pytest.mark.parametrize("count", [75, pytest.param(300, marks=pytest.mark.slow)])
def test_intervals_and_bounds_cover_the_population(count: int) -> None:
    found, spectra, truth = draws(100, count, seed=2)
    held = [f.largest_interval[0] <= float(truth[-1]) <= f.largest_interval[1] for f in found]
    # of 100 draws 91 or more are covered in 97 % of cases at exactly 95 %
    assert sum(held) >= 91
    # 25 batches: Student's t with 24 degrees of freedom
    away = (spectra.sum(dim=1) - truth.sum()).abs() / torch.tensor([f.trace_error for f in found])
    assert 89 <= int((away <= 2.064).sum()) <= 99
    distances = (spectra - truth).abs().mean(dim=1)
    assert sum(float(d) <= f.density_distance for d, f in zip(distances, found, strict=True)) >= 95
    # the errors are those seen: of 100 values a deviation is good to 7 %
    seen = spectra[:, -1].std() / torch.stack([f.eigenvalue_errors[0] for f in found]).mean()
    assert 0.75 <= float(seen) <= 1.25
