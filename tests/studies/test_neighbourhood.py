"""The variance around the weights: closed form of a quadratic, orders of what it leaves out."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, jacrev, vmap
from torch.utils.data import TensorDataset

from lightning_hessian.errors import NonFiniteError
from lightning_hessian.loss import TrainingLoss
from lightning_hessian.records import NeighbourhoodVariance
from lightning_hessian.sample_losses import sample_losses
from lightning_hessian.studies import neighbourhood_variance, sample_moments
from tests.helpers.networks import Supervised, ask, mlp
from tests.helpers.quadratics import Quadratics

SIZE = 6
SAMPLES = Quadratics.random(40, SIZE)
WEIGHTS = torch.linspace(-1, 1, SIZE).double()
BASIS = torch.linalg.qr(
    torch.randn(SIZE, 2, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
)[0]


def _around(
    sigmas: list[float], *, basis: Tensor | None = None, predict: bool = False, **options: int
) -> list[NeighbourhoodVariance]:
    """Measured on the quadratic samples; batches of one, so that the moments are exact."""
    module, data = SAMPLES.module_and_data(WEIGHTS)

    def question(loss: TrainingLoss) -> list[NeighbourhoodVariance]:
        generator = torch.Generator().manual_seed(1)
        moments = None
        if predict:
            whole = torch.eye(SIZE, dtype=torch.float64) if basis is None else basis
            moments = sample_moments(loss, basis=whole, generator=generator)
            moments = moments if basis is None else moments.subspace
        losses = sample_losses(loss).values
        return [
            neighbourhood_variance(
                loss,
                losses,
                sigma=sigma,
                method="batched",
                generator=generator,
                basis=basis,
                moments=moments,
                **options,
            )
            for sigma in sigmas
        ]

    return ask(module, data, question, batch_size=1 if predict else 40)


@pytest.mark.parametrize("basis", [None, BASIS], ids=["all parameters", "subspace"])
def test_variance_of_quadratic_samples_is_the_closed_form(basis: Tensor | None) -> None:
    samples = SAMPLES if basis is None else SAMPLES.within(basis)
    for found in _around([1e-3, 0.1, 1.0], basis=basis, num_perturbations=32):
        expected = samples.variance(found.sigma)
        assert abs(found.variance - expected) <= 4 * found.standard_error
        assert found.value_part == pytest.approx(float(SAMPLES.losses.var()))
        assert found.dimensions == (None if basis is None else 2)
        assert found.num_perturbations == 32


def test_error_is_the_scatter_of_the_pairs_widened_as_two_of_them_need() -> None:
    (found,) = _around([1.0], num_perturbations=4)
    generator = torch.Generator().manual_seed(1)
    draws = [torch.randn(SIZE, generator=generator, dtype=torch.float64) for _ in range(2)]
    pairs = torch.stack([0.5 * sum(SAMPLES.at(s * draw).var() for s in (1, -1)) for draw in draws])
    assert found.variance == pytest.approx(float(pairs.mean()))
    # Student's t with one degree of freedom, 12.706 against 1.960
    assert found.standard_error == pytest.approx(6.483 * float(pairs.std()) / 2**0.5, rel=1e-3)


@pytest.mark.parametrize("basis", [None, BASIS], ids=["all parameters", "subspace"])
def test_prediction_of_quadratic_samples_is_exact(basis: Tensor | None) -> None:
    samples = SAMPLES if basis is None else SAMPLES.within(basis)
    gradient, curvature, covariance, trace = samples.moments.tolist()
    for found in _around([0.01, 0.5], basis=basis, predict=True, num_perturbations=4):
        sigma = found.sigma
        assert found.prediction == pytest.approx(samples.variance(sigma), rel=1e-9)
        assert found.linear_part == pytest.approx(sigma**2 * (gradient + covariance), rel=1e-9)
        quadratic = sigma**4 / 4 * (trace + 2 * curvature)
        assert found.quadratic_part == pytest.approx(quadratic, rel=1e-9)
        assert 0 < found.prediction_standard_error < found.prediction


def test_pairs_tell_an_excess_that_single_perturbations_would_not() -> None:
    sigma = 1e-4
    (found,) = _around([sigma], num_perturbations=64)
    excess = SAMPLES.variance(sigma) - float(SAMPLES.losses.var())
    # a fraction of the excess ...
    assert found.standard_error < excess / 3
    assert abs(found.variance - found.value_part - excess) < 4 * found.standard_error
    # ... which the odd part's standard deviation 2 sigma |Cov(l, g)| alone would hide
    slopes = SAMPLES.gradients - SAMPLES.gradients.mean(dim=0)
    covariance = SAMPLES.losses @ slopes / (len(SAMPLES.losses) - 1)
    assert 2 * sigma * float(covariance.norm()) / math.sqrt(64) > 20 * excess


def test_at_small_sigma_the_value_is_all_of_it() -> None:
    (found,) = _around([1e-6], predict=True, num_perturbations=4)
    assert found.value_part == pytest.approx(found.variance, rel=1e-9)
    assert found.linear_part + found.quadratic_part < 1e-6 * found.value_part


def test_what_a_tanh_net_leaves_of_the_prediction_is_of_fourth_order() -> None:
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    module = Supervised(mlp(2, 3, 2, activation=torch.nn.Tanh))
    inputs = torch.randn(30, 2, generator=generator)
    data = TensorDataset(inputs, torch.randint(0, 2, (30,), generator=generator))
    samples = _dense(module, data)
    sigmas = [0.05, 0.1]

    def question(loss: TrainingLoss) -> list[float]:
        losses = sample_losses(loss).values
        return [
            neighbourhood_variance(
                loss,
                losses,
                sigma=sigma,
                num_perturbations=8,
                method="batched",
                generator=torch.Generator().manual_seed(1),
            ).variance
            for sigma in sigmas
        ]

    # the quadratic model at the very perturbations that were drawn: no noise is left in between
    size, generator = samples.gradients.shape[1], torch.Generator().manual_seed(1)
    draws = [torch.randn(size, generator=generator, dtype=torch.float64) for _ in range(4)]
    models = [
        float(torch.stack([samples.at(s * sigma * z).var() for z in draws for s in (1, -1)]).mean())
        for sigma in sigmas
    ]
    measured = ask(module, data, question, batch_size=30)
    small, large = (abs(found - model) for found, model in zip(measured, models, strict=True))
    # 2^4, and a share of 2^6 from the terms after
    assert 8 < large / small < 32


def _dense(module: Supervised, data: TensorDataset) -> Quadratics:
    """The expansions of the samples' losses, by `torch.func` on a functional copy."""
    names = [name for name, _ in module.network.named_parameters()]
    tensors = [p.detach().double() for p in module.network.parameters()]
    flat = torch.cat([t.reshape(-1) for t in tensors])

    def alone(vector: Tensor, x: Tensor, y: Tensor) -> Tensor:
        pieces = vector.split([t.numel() for t in tensors])
        named = {n: p.view(t.shape) for n, p, t in zip(names, pieces, tensors, strict=True)}
        outputs = functional_call(module.network, named, (x[None],))
        return module.criterion(outputs, y[None])

    inputs, targets = data.tensors[0].double(), data.tensors[1]
    over = (None, 0, 0)
    return Quadratics(
        *(
            vmap(f, in_dims=over)(flat, inputs, targets).detach()
            for f in (alone, jacrev(alone), jacrev(jacrev(alone)))
        )
    )


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.inf, math.nan])
def test_refuses_a_sigma_that_is_no_length(sigma: float) -> None:
    with pytest.raises(ValueError, match=f"`sigma` must be positive and finite, got {sigma:g}"):
        _around([sigma])


@pytest.mark.parametrize("count", [0, 2, 7])
def test_refuses_perturbations_that_are_no_pairs(count: int) -> None:
    with pytest.raises(ValueError, match=f"`num_perturbations` must be even .* 4, got {count}:"):
        _around([0.1], num_perturbations=count)


def test_refuses_moments_of_another_space() -> None:
    module, data = SAMPLES.module_and_data(WEIGHTS)

    def question(loss: TrainingLoss) -> None:
        generator = torch.Generator()
        moments = sample_moments(loss, basis=BASIS, generator=generator)
        neighbourhood_variance(
            loss,
            torch.zeros(40),
            sigma=0.1,
            method="batched",
            generator=generator,
            moments=moments.subspace,
        )

    with pytest.raises(ValueError, match="perturbed in, all parameters, got those of 2 basis"):
        ask(module, data, question)


@pytest.mark.parametrize("losses", [torch.zeros(1), torch.zeros(3, 2), torch.tensor(1.0)])
def test_refuses_what_has_no_variance(losses: Tensor) -> None:
    module, data = SAMPLES.module_and_data(WEIGHTS)

    def question(loss: TrainingLoss) -> None:
        neighbourhood_variance(
            loss, losses, sigma=0.1, method="batched", generator=torch.Generator()
        )

    with pytest.raises(ValueError, match=r"`losses` must hold .* at least 2 samples, .* got \("):
        ask(module, data, question)


def test_refuses_losses_that_are_not_finite_at_the_weights() -> None:
    module, data = SAMPLES.module_and_data(WEIGHTS)
    losses = torch.tensor([1.0, math.nan, math.inf])

    def question(loss: TrainingLoss) -> None:
        neighbourhood_variance(
            loss, losses, sigma=0.1, method="batched", generator=torch.Generator()
        )

    with pytest.raises(NonFiniteError, match="2 of 3 `losses` are not finite at the present"):
        ask(module, data, question)


def test_refuses_a_sigma_at_which_losses_are_not_finite() -> None:
    with pytest.raises(NonFiniteError, match=r"sigma=1e\+200, so there is no variance\. Give a sm"):
        _around([1e200])
