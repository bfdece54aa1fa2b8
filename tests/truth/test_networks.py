"""Real networks: what the callback reports against all eigenvalues of the dense Hessian."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from lightning_hessian import Krylov, Loss, SpectrumReport
from lightning_hessian.linalg.spectrum import DENSITY_RTOL
from lightning_hessian.loss import TrainingLoss
from tests.helpers.fitting import loader, trainer
from tests.helpers.networks import (
    Attention,
    ConvWithBatchNorm,
    Recurrent,
    Supervised,
    TiedFrozenUnused,
    ask,
    dense_hessian,
    difference_product,
    measured,
    mlp,
)

RTOL = 1e-3
"""Bound asked of each eigenvalue. The error is about its square over the gap: 1e-5 follows."""

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "mlp": lambda: mlp(64, 10, 10, activation=nn.Tanh),
    "convolutions with batch norm": ConvWithBatchNorm,
    "attention": Attention,
    "lstm": Recurrent,
    "tied, frozen and unused": TiedFrozenUnused,
}


def _probe_error(exact: Tensor) -> float:
    """Expected Wasserstein distance from four probes at unlimited resolution.

    The share ``F`` below each point has the variance ``2 F (1 - F) / (n b)``; the mean magnitude of
    a normal error is ``sqrt(2 / pi)`` deviations. 1e-3 of the range and less on these networks.
    """
    below = torch.arange(1, len(exact)) / len(exact)
    spread = (2 * below * (1 - below) / (4 * len(exact))).sqrt() * math.sqrt(2 / math.pi)
    return float((spread * exact.diff()).sum())


def _trained(
    network: nn.Module, data: TensorDataset, *, epochs: int, max_hvps: int = 200, **options: int
) -> tuple[SpectrumReport, Supervised]:
    """The report in float32 after some epochs, and the module."""
    module = Supervised(network)
    trainer(max_epochs=epochs).fit(module, loader(data, batch_size=32))
    solver = Krylov(rtol=RTOL, max_hvps=max_hvps)
    return measured(module, data, batch_size=32, solver=solver, **options), module


def _check(report: SpectrumReport, dense: Tensor) -> None:
    exact = torch.linalg.eigvalsh(dense)
    extent = float(exact[-1] - exact[0])
    top, bottom = (
        exact.flip(0)[: len(report.largest.values)],
        exact[: len(report.smallest.values)],
    )
    for found, true, bounds in (
        (report.largest.values, top, report.largest.residual_bounds),
        (report.smallest.values, bottom, report.smallest.residual_bounds),
    ):
        error = (found - true).abs()
        assert bool((error <= bounds).all())
        assert float((error / true.abs()).max()) < 1e-5
    assert bool(report.largest.converged.all() & report.smallest.converged.all())
    trace = float(dense.trace())
    # an exact trace has an error bar of rounding only, which float32 products may pass slightly
    assert abs(report.trace.value - trace) < 3 * report.trace.standard_error + 1e-6 * extent
    norm = report.frobenius_norm
    assert abs(norm.value - float(dense.norm())) < 4 * norm.standard_error + 1e-6 * norm.value
    assert report.density is not None
    nodes, weights = report.density.nodes, report.density.weights
    moved = stats.wasserstein_distance(nodes, exact, weights)
    assert moved < 2 * _probe_error(exact) + DENSITY_RTOL * extent
    below = float((exact < -report.negative_mass.threshold).double().mean())
    lower, upper = report.negative_mass.bracket
    assert lower <= below <= upper


@pytest.mark.slow
def test_spectrum_of_a_trained_classifier_of_3466_parameters(digits: TensorDataset) -> None:
    torch.manual_seed(0)
    report, module = _trained(mlp(64, 32, 32, 10), digits, epochs=5)
    assert report.num_parameters == 3466
    assert report.num_hvps <= 200
    _check(report, dense_hessian(module, digits))


@pytest.mark.slow
def test_density_of_a_classifier_of_all_digits_is_within_a_thousandth_of_its_range(
    all_digits: TensorDataset,
) -> None:
    torch.manual_seed(0)
    report, module = _trained(mlp(64, 32, 32, 10), all_digits, epochs=20)
    dense = dense_hessian(module, all_digits)
    _check(report, dense)
    exact = torch.linalg.eigvalsh(dense)
    assert report.density is not None
    moved = stats.wasserstein_distance(report.density.nodes, exact, report.density.weights)
    assert moved < 1e-3 * float(exact[-1] - exact[0])


@pytest.mark.sampled
@pytest.mark.parametrize("name", NETWORKS)
def test_spectrum_of_a_network(name: str, digits: TensorDataset) -> None:
    data = TensorDataset(*digits[:65])  # 2 * 32 + 1
    torch.manual_seed(0)
    report, module = _trained(NETWORKS[name](), data, epochs=6, num_eigenvalues=3)
    _check(report, dense_hessian(module, data))


@pytest.mark.parametrize("name", NETWORKS)
def test_products_are_differences_of_gradients(name: str, digits: TensorDataset) -> None:
    torch.manual_seed(0)
    module, data = Supervised(NETWORKS[name]()), TensorDataset(*digits[:33])
    size = sum(p.numel() for p in module.parameters() if p.requires_grad)
    generator = torch.Generator().manual_seed(1)
    direction = torch.randn(size, generator=generator, dtype=torch.float64) / size**0.5

    def product(loss: TrainingLoss) -> Tensor:
        return loss.products.matmat(direction[:, None])[:, 0]

    exact = ask(module, data, product, batch_size=32)
    # central differences: step^2 = 1e-10 times third derivatives, and 1e-16 / step of rounding
    difference = difference_product(module, data, direction)
    assert (exact - difference).norm() < 1e-6 * exact.norm()


def test_negative_curvature_larger_than_positive_is_not_called_largest(
    digits: TensorDataset,
) -> None:
    # minus the loss: the spectrum is reflected, and the largest by magnitude is at the lower end
    torch.manual_seed(0)
    network = mlp(64, 2, 10, activation=nn.Tanh)
    data = TensorDataset(*digits[:33])
    in_double = {"loss": Loss(precision=64), "solver": Krylov(rtol=1e-6)}
    reports = []
    for sign in (1.0, -1.0):
        module = Supervised(
            network, lambda z, y, sign=sign: sign * nn.functional.cross_entropy(z, y), lr=0.0
        )
        reports.append(measured(module, data, num_eigenvalues=2, num_smallest=2, **in_double))
    plain, reflected = reports
    assert float(plain.largest.values[0]) > -2 * float(plain.smallest.values[0])
    torch.testing.assert_close(reflected.smallest.values, -plain.largest.values, rtol=1e-8, atol=0)
    torch.testing.assert_close(reflected.largest.values, -plain.smallest.values, rtol=1e-8, atol=0)


def test_unused_and_frozen_parameters_add_zeros_or_nothing(digits: TensorDataset) -> None:
    torch.manual_seed(0)
    data = TensorDataset(*digits[:33])
    report, module = _trained(TiedFrozenUnused(), data, epochs=1, max_hvps=20)
    assert report.unused_parameters == ("network.unused.weight", "network.unused.bias")
    names = [n for n, p in module.named_parameters() if p.requires_grad]
    # the tied weight counts once (512), the frozen one (512) not at all
    assert "network.decoder.weight" not in names
    assert report.num_parameters == 512 + 8 + 25 + 8 + 90
