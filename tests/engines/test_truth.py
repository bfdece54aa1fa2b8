"""What PyHessian gives of a training loss, against closed forms and dense Hessians."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_hessian.engines import pyhessian_spectrum
from lightning_hessian.loss import ParameterSelection, TrainingLoss
from lightning_hessian.options import PyHessian
from lightning_hessian.records import Spectrum
from tests.helpers.fitting import classification_data
from tests.helpers.losses import opened
from tests.helpers.networks import (
    Attention,
    ConvWithBatchNorm,
    Recurrent,
    Supervised,
    TiedFrozenUnused,
    ask,
    dense_hessian,
    mlp,
)

DEFAULTS = PyHessian()
PRECISE = PyHessian(eigenvalues_maxIter=300, eigenvalues_tol=1e-8, trace_maxIter=100, trace_tol=0)


def measure(loss: TrainingLoss, solver: PyHessian = DEFAULTS, **wanted: Any) -> Spectrum:
    """Nothing but what is asked for."""
    nothing: dict[str, Any] = {"num_eigenvalues": 0, "trace": False, "density": False, "seed": 3}
    return pyhessian_spectrum(loss, **(nothing | wanted), solver=solver)


def of_matrices(
    *matrices: Tensor,
    weights: Sequence[float] | None = None,
    solver: PyHessian = DEFAULTS,
    **wanted: Any,
) -> Spectrum:
    """Of the loss ``sum_b weight_b w.A_b w / 2`` over batches, at a point that is not zero."""
    module = nn.Module()
    module.w = nn.Parameter(torch.linspace(1, 2, len(matrices[0]), dtype=torch.float64))
    with opened(module, lambda a: 0.5 * module.w @ a @ module.w, matrices, weights=weights) as loss:
        return measure(loss, solver, **wanted)


@pytest.fixture(scope="module")
def module() -> Supervised:
    torch.manual_seed(0)
    return Supervised(mlp(4, 5, 3, activation=nn.Tanh))


@pytest.fixture(scope="module")
def hessian(module: Supervised) -> Tensor:
    """43 parameters, 26 samples."""
    return dense_hessian(module, classification_data())


def first_probe(parameters: Iterable[Tensor], generator: Any = None) -> Tensor:
    """What PyHessian draws for its density after a seed of 3, or next from a generator."""
    source = generator or torch.Generator().manual_seed(3)
    pieces = [torch.randint(2, p.shape, generator=source).flatten() for p in parameters]
    return 2 * torch.cat(pieces).double() - 1


def by_ask(module: Supervised, solver: PyHessian = DEFAULTS, **wanted: Any) -> Spectrum:
    """Batches of 8, 8, 8 and 2 in a real fit."""
    return ask(module, classification_data(), lambda loss: measure(loss, solver, **wanted))


@pytest.mark.slow
def test_eigenvalues_over_ragged_batches_are_those_of_the_dense_hessian(
    module: Supervised, hessian: Tensor
) -> None:
    spectrum = by_ask(module, PRECISE, num_eigenvalues=4)
    expected = torch.linalg.eigvalsh(hessian).flip(0)[:4]
    # norms are off by 1e-6 relative on purpose
    torch.testing.assert_close(spectrum.largest.values, expected, rtol=1e-5, atol=0)
    assert spectrum.smallest.values.numel() == 0
    assert bool(spectrum.largest.residual_bounds.isnan().all())
    assert not spectrum.largest.converged.any()


@pytest.mark.parametrize("make", [ConvWithBatchNorm, Attention, Recurrent, TiedFrozenUnused])
def test_density_of_every_kind_of_network_has_the_moments_of_its_probe(make: Any) -> None:
    torch.manual_seed(0)
    module, data = Supervised(make()), classification_data(10, features=64, classes=10)
    parameters = [p for p in module.parameters() if p.requires_grad]
    dense, probe = dense_hessian(module, data), first_probe(parameters)
    density = ask(
        module, data, lambda loss: measure(loss, PyHessian(density_iter=4), density=True)
    ).density
    assert density is not None
    image = dense @ probe
    for power, expected in ((1, probe @ image), (2, image @ image), (3, image @ dense @ image)):
        moment = float(density.weights @ density.nodes**power)
        assert moment == pytest.approx(float(expected) / len(probe), rel=1e-4)


def test_trace_is_the_mean_of_hutchinson_probes(module: Supervised, hessian: Tensor) -> None:
    estimate = by_ask(module, PRECISE, trace=True).trace
    assert estimate is not None
    assert estimate.num_probes == 100
    # the variance of a Rademacher probe
    off_diagonal = hessian.square().sum() - hessian.diagonal().square().sum()
    error = float((2 * off_diagonal / 100).sqrt())
    assert abs(estimate.value - float(hessian.trace())) < 4 * error
    # a deviation from 100 samples is good to 7 %, were they normal
    assert estimate.standard_error == pytest.approx(error, rel=0.3)


def test_density_is_the_gauss_quadrature_of_its_probes(module: Supervised, hessian: Tensor) -> None:
    options = PyHessian(density_iter=6, density_n_v=3)
    density = by_ask(module, options, density=True).density
    assert density is not None
    generator = torch.Generator().manual_seed(3)
    for run in range(3):
        probe = first_probe(module.parameters(), generator)
        image = probe
        # m steps are exact for powers up to 2m - 1
        for power in range(12):
            expected = float(probe @ image) / 43
            moment = float(density.probe_weights[:, run] @ density.nodes**power)
            assert moment == pytest.approx(expected, rel=1e-4)
            image = hessian @ image
    assert float(density.weights.sum()) == pytest.approx(1, abs=1e-12)
    assert bool((density.nodes.diff() >= 0).all())


def test_density_has_no_more_nodes_than_there_are_parameters(
    module: Supervised, hessian: Tensor
) -> None:
    spectrum = by_ask(module, density=True)
    assert spectrum.num_hvps == 43
    assert spectrum.density is not None
    expected = torch.linalg.eigvalsh(hessian)
    # 43 steps find every eigenvalue, as far as the basis is orthogonal
    torch.testing.assert_close(spectrum.density.nodes[-4:], expected[-4:], rtol=1e-4, atol=0)


def test_kernel_is_that_of_pyhessians_plot() -> None:
    narrow, wide = torch.diag(torch.tensor([0.1, 0.3])), torch.diag(torch.tensor([0.0, 50.0]))
    for matrix, variance in ((narrow, 1e-5), (wide, 50.02e-5)):
        density = of_matrices(matrix.double(), density=True).density
        assert density is not None
        assert density.bandwidth**2 == pytest.approx(variance, rel=1e-5)
    wider = of_matrices(wide.double(), density=True, solver=PyHessian(density_sigma_squared=1e-3))
    assert wider.density is not None
    assert wider.density.bandwidth**2 == pytest.approx(50.02e-3, rel=1e-5)


def test_batches_count_by_weights_that_are_no_whole_numbers() -> None:
    generator = torch.Generator().manual_seed(0)
    half = torch.randn(3, 6, 6, generator=generator, dtype=torch.float64)
    matrices, weights = half + half.mT, torch.tensor([0.5, 2.25, 0.125], dtype=torch.float64)
    spectrum = of_matrices(*matrices, weights=weights.tolist(), solver=PRECISE, num_eigenvalues=6)
    mean = torch.einsum("b,bij->ij", weights, matrices) / weights.sum()
    values = torch.cat([spectrum.smallest.values, spectrum.largest.values.flip(0)])
    torch.testing.assert_close(values, torch.linalg.eigvalsh(mean), rtol=1e-4, atol=0)


def test_negative_eigenvalues_are_among_the_smallest_and_are_no_largest() -> None:
    matrix = torch.diag(torch.tensor([-5.0, -3.0, -0.5, 4.0, 1.0], dtype=torch.float64))
    spectrum = of_matrices(matrix, solver=PRECISE, num_eigenvalues=3)
    assert spectrum.smallest.values.tolist() == pytest.approx([-5, -3], rel=1e-5)
    assert spectrum.largest.values.tolist() == pytest.approx([4], rel=1e-5)
    definite = of_matrices(-torch.eye(3, dtype=torch.float64), num_eigenvalues=2)
    assert definite.smallest.values.tolist() == pytest.approx([-1, -1], rel=1e-5)
    assert definite.largest.values.numel() == 0


def test_one_parameter_is_measured() -> None:
    three = torch.tensor([[3.0]], dtype=torch.float64)
    spectrum = of_matrices(three, num_eigenvalues=5, trace=True, density=True)
    assert spectrum.largest.values.tolist() == pytest.approx([3], rel=1e-5)
    assert spectrum.trace is not None
    assert spectrum.density is not None
    assert spectrum.trace.value == 3
    assert spectrum.density.nodes.tolist() == pytest.approx([3], rel=1e-5)
    assert spectrum.density.weights.tolist() == [1]
    # two products until the quotient repeats itself, two equal probes, one step
    assert spectrum.num_hvps == 5


def test_flat_loss_has_a_spectrum_of_zeros() -> None:
    zero = torch.zeros(3, 3, dtype=torch.float64)
    spectrum = of_matrices(zero, num_eigenvalues=2, trace=True, density=True)
    assert spectrum.largest.values.tolist() == [0, 0]
    assert spectrum.trace is not None
    assert spectrum.density is not None
    assert spectrum.trace.value == 0
    assert spectrum.trace.interval == (-float("inf"), float("inf"))  # of a single probe
    assert spectrum.density.nodes.tolist() == [0, 0, 0]


def test_unused_linear_and_unselected_parameters_count_as_they_should() -> None:
    module = nn.Module()
    for name in ("curved", "linear", "unused", "other"):
        module.register_parameter(name, nn.Parameter(torch.ones(2, dtype=torch.float64)))

    def step(batch: Any) -> Tensor:
        return 3 * module.curved.square().sum() + module.linear.sum() + module.other.pow(4).sum()

    selected = ["curved", "linear", "unused"]
    with opened(module, step, patterns=selected) as loss:
        spectrum = measure(loss, PRECISE, num_eigenvalues=2, trace=True)
        assert module.other.grad is None
    assert spectrum.largest.values.tolist() == pytest.approx([6, 6], rel=1e-5)
    assert spectrum.trace is not None
    assert spectrum.trace.value == 12


def test_loss_that_depends_on_no_parameter_in_one_batch_counts_with_its_weight() -> None:
    module = nn.Module()
    module.w = nn.Parameter(torch.ones(1, dtype=torch.float64))

    def step(batch: float) -> Tensor:
        return module.w.square().sum() if batch else torch.ones((), dtype=torch.float64)

    with opened(module, step, [1.0, 0.0], weights=[1, 3]) as loss:
        spectrum = measure(loss, trace=True)
    assert spectrum.trace is not None
    assert spectrum.trace.value == 0.5


def test_batch_that_training_skips_has_no_weight() -> None:
    module = nn.Module()
    module.w = nn.Parameter(torch.ones(2, dtype=torch.float64))
    with opened(
        module, lambda x: None if x is None else x * module.w.square().sum(), [1.0, None, 3.0]
    ) as loss:
        spectrum = measure(loss, trace=True)
    assert spectrum.trace is not None
    assert spectrum.trace.value == 8  # the mean of 4 and 12


def test_parameter_that_requires_a_gradient_only_while_the_step_runs_is_measured() -> None:
    module = nn.Module()
    for name in ("first", "second"):
        module.register_parameter(name, nn.Parameter(torch.ones(1, dtype=torch.float64)))
    module.first.requires_grad_(False)

    def step(batch: Any) -> Tensor:
        module.first.requires_grad_(True)
        return module.first.square().sum() + 2 * module.second.square().sum()

    with opened(module, step) as loss:
        loss.parameters = ParameterSelection.of(module, trainable=["first", "second"])
        spectrum = measure(loss, trace=True)
    assert spectrum.trace is not None
    assert spectrum.trace.value == 6


def test_sparse_gradients_are_measured() -> None:
    table = nn.Embedding(4, 2, sparse=True).double()
    rows = torch.tensor([0, 2])
    table(rows).sum().backward()  # one that the user has left there
    with opened(table, lambda _: table(rows).square().sum()) as loss:
        spectrum = measure(loss, PRECISE, num_eigenvalues=4, trace=True)
    assert spectrum.largest.values.tolist() == pytest.approx([2] * 4, rel=1e-5)
    assert spectrum.trace is not None
    assert spectrum.trace.value == 8
