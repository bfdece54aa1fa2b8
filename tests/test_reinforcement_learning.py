"""The example's measured Hessian is that of the expected return, within the sampling error."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev
from torch.nn import functional as F

from examples.reinforcement_learning import (
    HORIZON,
    Noise,
    Reinforce,
    exact_hessian,
    exact_sharpness,
    sampling_error,
)
from lightning_hessian import Krylov, Loss
from tests.helpers import hard_modules as hard
from tests.helpers.fitting import loader, trainer
from tests.helpers.spectrum import spectrum

EPISODES, GROUPS = 4096, 16


def through_policy(module: Reinforce, slope: Tensor, curvature: Tensor) -> Tensor:
    """The Hessian by the weights of ``slope z + z curvature z / 2`` about the log-policy ``z``."""
    names = [name for name, _ in module.policy.named_parameters()]
    parameters = list(module.policy.parameters())
    sizes = [p.numel() for p in parameters]
    here = module.log_policy().detach().flatten()

    def objective(flat: Tensor) -> Tensor:
        parts = zip(names, flat.split(sizes), parameters, strict=True)
        weights = {name: part.view(p.shape) for name, part, p in parts}
        logits = functional_call(module.policy, weights, (module.world.cells,))
        moved = logits.log_softmax(-1).flatten() - here
        return slope @ moved + moved @ curvature @ moved / 2

    return jacrev(jacrev(objective))(nn.utils.parameters_to_vector(parameters).detach())


def of_episodes(module: Reinforce, noise: Tensor) -> tuple[Tensor, Tensor]:
    """``(n, n)`` of minus the return, and of the surrogate, from the counts of pairs met.

    With ``c_t`` the counts of (state, action) pairs up to time ``t``, the estimator is
    ``-sum_t r_t exp(c_t (z - z_0))``: slope ``-sum r_t c_t``, curvature ``-sum r_t c_t c_t^T``. The
    surrogate has the same slope and no curvature.
    """
    pairs, rewards = module.roll_out(noise)
    counts = F.one_hot(pairs, module.log_policy().numel()).cumsum(1).double()
    slope = -torch.einsum("nt,ntk->k", rewards, counts) / len(noise)
    curvature = -torch.einsum("nt,ntk,ntl->kl", rewards, counts, counts) / len(noise)
    both = through_policy(module, slope, curvature)
    return both, through_policy(module, slope, torch.zeros_like(curvature))


@dataclass
class Sampled:
    """Independent groups of episodes of a partly trained policy."""

    module: Reinforce
    exact: Tensor
    groups: Tensor
    surrogates: Tensor
    error: float  # root mean square of the Frobenius norm, for as many episodes as a group


@pytest.fixture(scope="module")
def sampled() -> Sampled:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = Reinforce(hidden=4)
        trainer(max_steps=48).fit(module, loader(Noise(EPISODES), batch_size=64))
    module.double()
    generator = torch.Generator().manual_seed(1)
    shape = (EPISODES, HORIZON, 2)
    noises = [torch.rand(shape, generator=generator, dtype=torch.float64) for _ in range(GROUPS)]
    groups, surrogates = map(
        torch.stack, zip(*(of_episodes(module, noise) for noise in noises), strict=True)
    )
    error = float(groups.var(0).sum().sqrt())
    return Sampled(module, exact_hessian(module), groups, surrogates, error)


def test_exact_return_is_the_mean_over_episodes(sampled: Sampled) -> None:
    noise = torch.rand(20_000, HORIZON, 2, generator=torch.Generator().manual_seed(2))
    returns = sampled.module.roll_out(noise.double())[1].sum(1)
    wanted = float(sampled.module.world.expected_return(sampled.module.log_policy().detach().exp()))
    assert abs(float(returns.mean()) - wanted) < 4 * float(returns.std()) / 20_000**0.5


def test_the_estimator_is_unbiased_and_the_surrogate_is_not(sampled: Sampled) -> None:
    of_mean = sampled.error / GROUPS**0.5
    # a Frobenius norm of many entries is close to its root mean square
    assert float((sampled.groups.mean(0) - sampled.exact).norm()) < 1.5 * of_mean
    assert float((sampled.surrogates.mean(0) - sampled.exact).norm()) > 10 * of_mean


def test_the_measured_operator_is_the_estimator_on_the_frozen_episodes(sampled: Sampled) -> None:
    measured = hard.measure(copy.deepcopy(sampled.module), Noise(256), batch_size=64)
    noise = torch.cat([batch.data for batch in measured.batches]).double()
    assert hard.off_by(measured.matrix, of_episodes(sampled.module, noise)[0]) < 1e-8
    (note,) = measured.notes
    assert note.code == "stopped-gradients"


def test_the_reported_spectrum_is_that_of_the_expected_return(sampled: Sampled) -> None:
    callback = spectrum(
        num_samples=EPISODES,
        num_eigenvalues=3,
        trace=True,
        loss=Loss(batch_size=EPISODES),
        solver=Krylov(rtol=1e-3),
    )
    trainer(callback, max_steps=1).fit(
        copy.deepcopy(sampled.module), loader(Noise(EPISODES), batch_size=64)
    )
    report = callback.reports[0]
    assert report.loss_name == "hessian_loss"
    values = torch.linalg.eigvalsh(sampled.exact)
    # Weyl: no eigenvalue moves by more than the norm of the error
    bound = 2 * sampled.error + float(report.largest.residual_bounds.max())
    assert bound < 0.5 * float(values[-1])
    assert float((report.largest.values - values.flip(0)[:3]).abs().max()) < bound
    assert abs(float(report.smallest.values[0] - values[0])) < bound
    traces = torch.stack([group.trace() for group in sampled.groups])
    error = float(traces.std()) + report.trace.standard_error
    assert abs(report.trace.value - float(values.sum())) < 4 * error
    surrogate = torch.linalg.eigvalsh(sampled.surrogates.mean(0))
    assert abs(float(surrogate[-1] - values[-1])) > bound


def test_the_exact_sharpness_is_the_largest_eigenvalue_as_the_optimiser_sees_it() -> None:
    module = Reinforce(hidden=4)
    hessian = exact_hessian(module)
    optimizer = torch.optim.Adam(module.policy.parameters(), lr=0.1, betas=(0.9, 0.99), eps=0.0)
    assert math.isnan(exact_sharpness(optimizer, hessian))
    for parameter in module.policy.parameters():
        parameter.grad = torch.full_like(parameter, 2.0)
    optimizer.step()
    # gradients of two, whose second moment is four: the second step is (1 - b1) lr / (1 - b1^2)
    # over their length
    step = 0.1 * 0.1 / ((1 - 0.9**2) * 2.0)
    largest = float(torch.linalg.eigvalsh(hessian)[-1])
    assert exact_sharpness(optimizer, hessian) == pytest.approx(step * largest, rel=1e-5)


def test_the_printed_sampling_error_is_the_spread_between_groups(sampled: Sampled) -> None:
    _, vectors = torch.linalg.eigh(sampled.exact)
    along = torch.einsum("i,gij,j->g", vectors[:, -1], sampled.groups, vectors[:, -1])
    printed = sampling_error(
        copy.deepcopy(sampled.module).float(), vectors[:, -1].float(), EPISODES
    )
    # each is known to 1 / sqrt(2 * 15), 18 %, from 16 groups
    assert 0.4 < printed / float(along.std()) < 2.5
