"""Moments over samples from batches, against those from every sample's dense derivatives."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lightning_hessian.linalg import rademacher
from lightning_hessian.studies.batch_moments import MOMENTS
from tests.helpers.quadratics import Quadratics

UNITS = torch.eye(len(MOMENTS), dtype=torch.float64)


def _repeated(
    samples: Quadratics,
    sizes: list[int],
    *,
    repetitions: int,
    num_probes: int,
    basis: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Estimates and errors, each time of new batches and new probes."""
    generator = torch.Generator().manual_seed(7)
    estimates, errors = [], []
    for _ in range(repetitions):
        probes = rademacher(
            samples.gradients.shape[1], num_probes, generator=generator, dtype=torch.float64
        )
        groups = samples.batches(sizes, generator=generator)
        deviations = samples.deviations(groups, probes, basis)
        covariance = deviations.covariance()
        estimates.append(deviations.moments())
        errors.append(torch.tensor([covariance.standard_error(unit) for unit in UNITS]))
    return torch.stack(estimates), torch.stack(errors)


@pytest.mark.sampled
@pytest.mark.parametrize(
    "sizes",
    [[8] * 12, [8] * 11 + [5, 3], [30, 20, 20, 15, 10, 1], [48, 48]],
    ids=["equal", "short last batch", "all different", "two batches"],
)
def test_estimates_are_unbiased_for_batches_of_any_size(sizes: list[int]) -> None:
    samples = Quadratics.random(96, 8)
    estimates, _ = _repeated(samples, sizes, repetitions=200, num_probes=3)
    error = estimates.std(dim=0) / math.sqrt(len(estimates))
    assert bool(((estimates.mean(dim=0) - samples.moments).abs() <= 4 * error).all())


def test_a_basis_leaves_the_estimates_unbiased_and_takes_noise_away() -> None:
    samples = Quadratics.random(96, 8)
    basis = torch.linalg.eigh(samples.hessians.mean(dim=0)).eigenvectors[:, -2:]
    options = {"repetitions": 200, "num_probes": 3}
    bare, _ = _repeated(samples, [8] * 12, **options)
    deflated, _ = _repeated(samples, [8] * 12, basis=basis, **options)
    error = deflated.std(dim=0) / math.sqrt(len(deflated))
    assert bool(((deflated.mean(dim=0) - samples.moments).abs() <= 4 * error).all())
    assert bool((deflated.std(dim=0)[1:] < bare.std(dim=0)[1:]).all())


def test_batches_of_one_sample_and_a_whole_basis_are_exact() -> None:
    samples = Quadratics.random(40, 6)
    singles = list(torch.arange(40).split(1))
    probes = rademacher(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = samples.deviations(singles, probes, torch.eye(6, dtype=torch.float64)).moments()
    assert found.tolist() == pytest.approx(samples.moments.tolist(), rel=1e-12)


@pytest.mark.sampled
@pytest.mark.parametrize("num_probes", [4, 8])
def test_errors_cover_what_the_samples_have_and_are_not_wide(num_probes: int) -> None:
    samples = Quadratics.random(240, 10)
    estimates, errors = _repeated(samples, [8] * 30, repetitions=200, num_probes=num_probes)
    covered = ((estimates - samples.moments).abs() <= 1.96 * errors).double().mean(dim=0)
    # 95 % less 4 standard errors of a share of 200
    assert bool((covered >= 0.95 - 4 * math.sqrt(0.95 * 0.05 / 200)).all()), covered
    # they are a population's, and widened for few probes: more than the same samples scatter by
    ratio = errors.square().mean(dim=0) / estimates.var(dim=0)
    assert bool((ratio < 6).all()), ratio


@pytest.mark.slow
def test_errors_cover_what_the_population_has() -> None:
    truth = Quadratics.random(40_000, 10, seed=99).moments
    generator = torch.Generator().manual_seed(3)
    covered, squares, estimates = [], [], []
    for repetition in range(200):
        samples = Quadratics.random(240, 10, seed=1000 + repetition)
        probes = rademacher(10, 4, generator=generator, dtype=torch.float64)
        deviations = samples.deviations(list(torch.arange(240).split(8)), probes)
        errors = torch.tensor([deviations.covariance().standard_error(unit) for unit in UNITS])
        estimates.append(deviations.moments())
        squares.append(errors.square())
        covered.append((estimates[-1] - truth).abs() <= 1.96 * errors)
    share = torch.stack(covered).double().mean(dim=0)
    # a variance of 30 skewed values has a skewed error: at 90 %, less 4 standard errors of a share
    assert bool((share >= 0.9 - 4 * math.sqrt(0.09 / 200)).all()), share
    ratio = torch.stack(squares).mean(dim=0) / torch.stack(estimates).var(dim=0)
    # each variance of 200 values is known to a tenth or, with heavy tails, a quarter
    assert bool((ratio > 0.6).all()), ratio
    # the probes' part is widened by (3.18 / 1.96)^2 = 2.6, none of which is in the gradient's; the
    # square of a trace is a product of two probes, for which a jackknife over 4 counts three times
    assert bool((ratio < 1.5 * torch.tensor([1, 2.6, 2.6, 3 * 2.6])).all()), ratio


def test_leaving_a_batch_out_is_the_estimate_from_the_others_around_their_own_mean() -> None:
    samples = Quadratics.random(50, 5)
    sizes = [10, 9, 8, 7, 16]
    generator = torch.Generator().manual_seed(0)
    groups = samples.batches(sizes, generator=generator)
    probes = rademacher(5, 3, generator=generator, dtype=torch.float64)
    without = []
    for left_out in range(5):
        kept = [group for j, group in enumerate(groups) if j != left_out]
        order = torch.cat(kept)
        fewer = Quadratics(samples.losses[order], samples.gradients[order], samples.hessians[order])
        positions = list(torch.arange(len(order)).split([len(group) for group in kept]))
        without.append(fewer.deviations(positions, probes).moments())
    values = torch.stack(without)
    spread = values - values.mean(dim=0)
    expected = 4 / 5 * spread.T @ spread
    found = samples.deviations(groups, probes).covariance().batches
    assert torch.allclose(found, expected, rtol=1e-10)


def test_two_batches_have_no_error() -> None:
    samples = Quadratics.random(20, 4)
    probes = rademacher(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    deviations = samples.deviations(list(torch.arange(20).split(10)), probes)
    assert bool(deviations.moments().isfinite().all())
    assert all(math.isnan(deviations.covariance().standard_error(unit)) for unit in UNITS)
