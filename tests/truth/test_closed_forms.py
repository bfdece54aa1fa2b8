"""Models whose Hessian is written on paper, through the module, the Trainer and the callback.

Autograd is no oracle of autograd: here nothing but matrix algebra stands on the other side. 1e-10
is a million roundings of float64; a missing batch weight would show as 1e-2.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from lightning_hessian import Loss
from lightning_hessian.loss import TrainingLoss
from tests.helpers.networks import Supervised, ask, dense_hessian, measured

COUNT, FEATURES, CLASSES = 25, 5, 4
# 25 = 3 * 8 + 1: the last batch is a single sample
BATCH_SIZES = (8, 7, 1, 25)


def _problem(name: str) -> tuple[Supervised, TensorDataset, Tensor]:
    """Module, data, and the Hessian by its formula."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(COUNT, FEATURES, generator=generator, dtype=torch.float64)
    weight = torch.randn(CLASSES, FEATURES, generator=generator, dtype=torch.float64)
    outputs = CLASSES if name == "softmax" else 1
    network = nn.Linear(FEATURES, outputs, bias=False).double()
    network.weight.data = weight[:outputs].clone()
    if name == "least squares":
        targets = torch.randn(COUNT, 1, generator=generator, dtype=torch.float64)
        return Supervised(network, F.mse_loss), TensorDataset(x, targets), 2 / COUNT * x.T @ x
    if name == "logistic":
        targets = torch.randint(2, (COUNT, 1), generator=generator).double()
        s = torch.sigmoid(x @ weight[0])
        exact = x.T @ ((s * (1 - s))[:, None] * x) / COUNT
        criterion = F.binary_cross_entropy_with_logits
        return Supervised(network, criterion), TensorDataset(x, targets), exact
    labels = torch.randint(CLASSES, (COUNT,), generator=generator)
    p = torch.softmax(x @ weight.T, dim=1)
    exact = sum(
        torch.kron(torch.diag(p[i]) - p[i].outer(p[i]), x[i].outer(x[i])) for i in range(25)
    )
    return Supervised(network), TensorDataset(x, labels), torch.as_tensor(exact) / COUNT


@pytest.mark.parametrize("batch_size", BATCH_SIZES)
@pytest.mark.parametrize("name", ["least squares", "logistic", "softmax"])
def test_hessian_is_its_closed_form_for_unequal_batches(name: str, batch_size: int) -> None:
    module, data, exact = _problem(name)

    def products(loss: TrainingLoss) -> Tensor:
        return loss.products.matmat(torch.eye(loss.size, dtype=torch.float64))

    dense = ask(module, data, products, batch_size=batch_size)
    assert (dense - exact).norm() < 1e-10 * exact.norm()


@pytest.mark.parametrize("name", ["least squares", "logistic", "softmax"])
def test_reported_spectrum_is_that_of_the_closed_form(name: str) -> None:
    module, data, exact = _problem(name)
    report = measured(module, data, num_eigenvalues=3, num_smallest=2, loss=Loss(precision=64))
    eigenvalues = torch.linalg.eigvalsh(exact)
    # few parameters: the sweep takes in the whole space, and every number is exact
    torch.testing.assert_close(
        report.largest.values, eigenvalues.flip(0)[:3], rtol=1e-10, atol=1e-13
    )
    torch.testing.assert_close(report.smallest.values, eigenvalues[:2], rtol=1e-10, atol=1e-13)
    assert report.trace.value == pytest.approx(float(exact.trace()), rel=1e-10)
    assert report.trace.standard_error < 1e-10 * report.trace.value
    assert report.density is not None
    torch.testing.assert_close(report.density.nodes, eigenvalues, rtol=1e-10, atol=1e-13)
    assert report.num_hvps == len(exact)
    assert bool(report.largest.converged.all())


def test_hessian_of_a_module_of_one_parameter() -> None:
    x = torch.linspace(-1, 2, 7, dtype=torch.float64)[:, None]
    module = Supervised(nn.Linear(1, 1, bias=False).double(), F.mse_loss)
    report = measured(module, TensorDataset(x, x), batch_size=3)
    assert float(report.largest.values) == pytest.approx(2 * float(x.square().mean()), rel=1e-12)
    assert report.trace.value == pytest.approx(2 * float(x.square().mean()), rel=1e-12)
    assert report.num_hvps == 1


def test_reported_loss_and_gradient_norm_are_those_of_least_squares_for_unequal_batches() -> None:
    x = torch.linspace(-1, 2, 14, dtype=torch.float64).view(7, 2)
    y = torch.linspace(3, -1, 7, dtype=torch.float64)[:, None]
    torch.manual_seed(0)
    network = nn.Linear(2, 1, bias=False).double()
    residual = x @ network.weight.detach().T - y
    report = measured(Supervised(network, F.mse_loss), TensorDataset(x, y), batch_size=3)
    assert report.loss == pytest.approx(float(residual.square().mean()), rel=1e-12)
    gradient = 2 * (residual * x).mean(dim=0)
    assert report.gradient_norm == pytest.approx(float(gradient.norm()), rel=1e-12)


def test_minimised_loss_has_the_hessian_of_its_quadratic_bowl_in_float32() -> None:
    # the parameter itself is the output: L = 1/2 w^T D w, so that H = D
    diagonal = torch.tensor([100.0, 3.0, 0.5, 0.0, -2.0])

    class Bowl(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.zeros(5))

        def forward(self, x: Tensor) -> Tensor:
            return 0.5 * (diagonal.to(x.dtype) * self.w.square()).sum() * x.squeeze(1)

    module = Supervised(Bowl(), lambda output, target: output.mean())
    data = TensorDataset(torch.ones(9, 1), torch.ones(9, 1))
    report = measured(module, data, batch_size=4, num_eigenvalues=4, num_smallest=1)
    # bounds of a float32 sweep over the whole space are rounding: 1e-5 of the norm is generous
    assert float(report.largest.residual_bounds.max()) < 1e-5 * 100
    expected = torch.tensor([100.0, 3.0, 0.5, 0.0], dtype=torch.float64)
    assert bool(((report.largest.values - expected).abs() <= report.largest.residual_bounds).all())
    assert abs(float(report.smallest.values) + 2) <= float(report.smallest.residual_bounds)
    assert report.gradient_norm == 0


def test_reference_hessian_of_the_tests_agrees_with_the_closed_form() -> None:
    module, data, exact = _problem("softmax")
    assert (dense_hessian(module, data) - exact).norm() < 1e-12 * exact.norm()
