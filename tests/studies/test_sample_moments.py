"""Moments of a real module's samples, from its own batches, against dense matrices."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from lightning_hessian.linalg import rademacher
from lightning_hessian.loss import TrainingLoss
from lightning_hessian.studies import SampleMoments, sample_moments
from lightning_hessian.studies.batch_moments import MOMENTS
from tests.helpers.networks import ask
from tests.helpers.quadratics import Quadratics

SIZE, NUM_SAMPLES = 6, 44
SAMPLES = Quadratics.random(NUM_SAMPLES, SIZE)
WEIGHTS = torch.linspace(-1, 1, SIZE).double()
BASIS = torch.linalg.qr(
    torch.randn(SIZE, 2, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
)[0]


def _groups(loss: TrainingLoss, data: TensorDataset) -> list[Tensor]:
    """Which samples are in which frozen batch, by their constants."""
    constants = data.tensors[0]
    return [
        torch.cat([(constants == c).nonzero()[0] for c in batch.data[0]])
        for batch in loss.sample.batches
    ]


def _measured(batch_size: int, basis: Tensor | None = None) -> tuple[SampleMoments, list[Tensor]]:
    module, data = SAMPLES.module_and_data(WEIGHTS)

    def question(loss: TrainingLoss) -> tuple[SampleMoments, list[Tensor]]:
        generator = torch.Generator().manual_seed(2)
        return sample_moments(loss, basis=basis, generator=generator), _groups(loss, data)

    return ask(module, data, question, batch_size=batch_size)


def _values(moments: SampleMoments) -> list[float]:
    return [getattr(moments, name).value for name in MOMENTS]


@pytest.mark.parametrize("basis", [None, BASIS], ids=["probes", "basis"])
def test_moments_are_those_of_the_frozen_batches(basis: Tensor | None) -> None:
    # 44 samples by 8: the last batch holds 4
    found, groups = _measured(8, basis)
    assert sorted(len(group) for group in groups) == [4, 8, 8, 8, 8, 8]
    probes = rademacher(SIZE, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    expected = SAMPLES.deviations(groups, probes, basis)
    assert _values(found) == pytest.approx(expected.moments().tolist(), rel=1e-9)
    for j, name in enumerate(MOMENTS):
        unit = torch.eye(len(MOMENTS), dtype=torch.float64)[j]
        error = expected.covariance().standard_error(unit)
        assert getattr(found, name).standard_error == pytest.approx(error, rel=1e-8)
    assert (found.num_batches, found.notes) == (6, ())
    assert found.num_hvps == 2 * (4 + (0 if basis is None else 2))


def test_coefficients_are_their_sums_of_moments_with_the_error_of_the_sum() -> None:
    found, groups = _measured(8)
    gradient, hessian, covariance, trace = _values(found)
    assert found.linear.value == pytest.approx(gradient + covariance)
    assert found.quadratic.value == pytest.approx((trace + 2 * hessian) / 4)
    probes = rademacher(SIZE, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    covariance = SAMPLES.deviations(groups, probes).covariance()
    weights = torch.tensor([0.09, 0.0081 / 2, 0.09, 0.0081 / 4], dtype=torch.float64)
    assert found.prediction_error(0.3) == pytest.approx(covariance.standard_error(weights))


def test_within_a_subspace_batches_of_one_sample_give_the_exact_moments() -> None:
    found, _ = _measured(1, BASIS)
    inside = SAMPLES.within(BASIS)
    assert found.subspace is not None
    assert found.subspace.dimensions == 2
    assert _values(found.subspace) == pytest.approx(inside.moments.tolist(), rel=1e-9)
    assert found.gradient_variance.value == pytest.approx(float(SAMPLES.moments[0]), rel=1e-9)
    gradient, hessian = inside.gradients.mean(dim=0), inside.hessians.mean(dim=0)
    norms = found.subspace.gradient_norm_squared, found.subspace.hessian_norm_squared.value
    expected = float(gradient.square().sum()), float(hessian.square().sum())
    assert norms == pytest.approx(expected, rel=1e-9)


def test_of_one_parameter_every_probe_tells_all() -> None:
    samples = Quadratics.random(12, 1)
    module, data = samples.module_and_data(torch.tensor([0.5]).double())
    found = ask(
        module,
        data,
        lambda loss: sample_moments(loss, generator=torch.Generator().manual_seed(0)),
        batch_size=1,
    )
    assert _values(found) == pytest.approx(samples.moments.tolist(), rel=1e-9)
    assert float(found.covariance.probes.abs().max()) < 1e-12 * float(
        found.covariance.batches.max()
    )


def test_single_precision_gives_the_same_to_its_rounding() -> None:
    module, data = SAMPLES.module_and_data(WEIGHTS)

    def question(loss: TrainingLoss) -> SampleMoments:
        return sample_moments(loss, basis=BASIS, generator=torch.Generator().manual_seed(2))

    single, double = (ask(module, data, question, precision=p) for p in (32, 64))
    # differences of batches that are some tenths of the norms, in 1e-7, and their products
    assert _values(single) == pytest.approx(_values(double), rel=1e-4)
    assert single.subspace is not None
    assert double.subspace is not None
    assert _values(single.subspace) == pytest.approx(_values(double.subspace), rel=1e-4)


def test_within_a_subspace_no_probe_enters() -> None:
    found, groups = _measured(8, BASIS)
    inside = SAMPLES.within(BASIS)
    dense = inside.deviations(
        groups, torch.empty(2, 0, dtype=torch.float64), torch.eye(2, dtype=torch.float64)
    )
    assert found.subspace is not None
    assert _values(found.subspace) == pytest.approx(dense.moments().tolist(), rel=1e-9)
    assert found.subspace.covariance.probes.abs().max() == 0


def test_norms_of_the_mean_are_unbiased() -> None:
    gradient, hessian = SAMPLES.gradients.mean(dim=0), SAMPLES.hessians.mean(dim=0)
    module, data = SAMPLES.module_and_data(WEIGHTS)

    def question(loss: TrainingLoss) -> list[SampleMoments]:
        generator = torch.Generator().manual_seed(0)
        return [sample_moments(loss, generator=generator) for _ in range(100)]

    found = ask(module, data, question, batch_size=22)
    squares = torch.tensor([m.hessian_norm_squared.value for m in found])
    error = float(squares.std()) / 10
    assert abs(float(squares.mean()) - float(hessian.square().sum())) <= 4 * error
    assert found[0].gradient_norm_squared == pytest.approx(float(gradient.square().sum()))


def test_one_batch_gives_no_moments_and_says_why() -> None:
    found, _ = _measured(NUM_SAMPLES)
    assert all(math.isnan(value) for value in _values(found))
    assert math.isnan(found.prediction_error(0.1))
    (note,) = found.notes
    assert "at least 2 batches, but the frozen samples make 1. Give a smaller `batch_size`" in note
    assert math.isfinite(found.gradient_norm_squared)
    assert math.isfinite(found.hessian_norm_squared.value)


def test_two_batches_give_no_error_and_say_why() -> None:
    found, _ = _measured(NUM_SAMPLES // 2)
    assert all(math.isfinite(value) for value in _values(found))
    assert math.isnan(found.linear.standard_error)
    assert "without an error from 2 batches" in found.notes[0]


def test_refuses_fewer_probes_than_an_error_takes() -> None:
    module, data = SAMPLES.module_and_data(WEIGHTS)
    generator = torch.Generator()
    with pytest.raises(ValueError, match="`num_probes` must be at least 3, got 2"):
        ask(module, data, lambda loss: sample_moments(loss, num_probes=2, generator=generator))


def test_refuses_a_basis_that_is_not_orthonormal() -> None:
    module, data = SAMPLES.module_and_data(WEIGHTS)
    generator = torch.Generator()
    with pytest.raises(ValueError, match=r"`basis` must be orthonormal, got .* up to 3\. Give"):
        ask(module, data, lambda loss: sample_moments(loss, basis=2 * BASIS, generator=generator))
