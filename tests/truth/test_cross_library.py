"""The same Hessian by other libraries: curvlinops, ARPACK over it, and PyHessian."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from lightning_hessian import Krylov
from lightning_hessian.hvp import GaussNewtonOperator, find_outputs
from lightning_hessian.loss import TrainingLoss
from tests.helpers.fitting import trainer
from tests.helpers.networks import Supervised, ask, loader, measured, mlp

pytestmark = pytest.mark.cross_library


@pytest.fixture(scope="module")
def trained(digits: TensorDataset) -> Supervised:
    """1,550 parameters after three epochs: outliers, a bulk, negative curvature."""
    torch.manual_seed(0)
    module = Supervised(mlp(64, 18, 10, 10, activation=nn.Tanh))
    trainer(max_epochs=3).fit(module, loader(digits, batch_size=32))
    return module


def _batches(data: TensorDataset, dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    """Five batches of 32 and a last one of a single sample."""
    inputs, targets = data.tensors
    return list(zip(inputs.to(dtype).split(32), targets.split(32), strict=True))


def _curvlinops(
    module: Supervised,
    data: TensorDataset,
    dtype: torch.dtype,
    kind: str = "HessianLinearOperator",
) -> Any:
    library = pytest.importorskip("curvlinops")
    network = copy.deepcopy(module.network).to(dtype).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(library, kind)(
            network, nn.CrossEntropyLoss(), list(network.parameters()), _batches(data, dtype)
        )


@pytest.mark.parametrize(("precision", "limit"), [(64, 1e-12), (32, 1e-5)])
def test_products_are_those_of_curvlinops(
    precision: int, limit: float, trained: Supervised, digits: TensorDataset
) -> None:
    dtype = torch.float64 if precision == 64 else torch.float32

    def products(loss: TrainingLoss) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(1)
        vectors = torch.randn(loss.size, 3, generator=generator, dtype=dtype)
        return vectors, loss.products.matmat(vectors)

    vectors, ours = ask(trained, digits, products, batch_size=32, precision=precision)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = _curvlinops(trained, digits, dtype) @ vectors
    assert (ours - theirs).norm() < limit * theirs.norm()


def test_gauss_newton_products_are_those_of_curvlinops(
    trained: Supervised, digits: TensorDataset
) -> None:
    generator = torch.Generator().manual_seed(1)

    def question(loss: TrainingLoss) -> tuple[Tensor, Tensor]:
        vectors = torch.randn(loss.size, 3, generator=generator, dtype=torch.float64)
        return vectors, GaussNewtonOperator(loss, find_outputs(loss)).matmat(vectors)

    vectors, ours = ask(trained, digits, question, batch_size=32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = _curvlinops(trained, digits, torch.float64, "GGNLinearOperator") @ vectors
    assert (ours - theirs).norm() < 1e-12 * theirs.norm()


def test_eigenvalues_are_those_of_arpack_over_curvlinops(
    trained: Supervised, digits: TensorDataset
) -> None:
    linalg = pytest.importorskip("scipy.sparse.linalg")
    operator = _curvlinops(trained, digits, torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        as_scipy = operator.to_scipy()
        top = linalg.eigsh(as_scipy, k=5, ncv=40, which="LA", tol=1e-7, return_eigenvectors=False)
        bottom = linalg.eigsh(
            as_scipy, k=1, ncv=60, which="SA", tol=1e-7, return_eigenvectors=False
        )
    report = measured(trained, digits, batch_size=32, solver=Krylov(rtol=1e-3))
    expected = torch.from_numpy(top.copy()).sort(descending=True).values
    # products in float32 against ARPACK's in float64
    torch.testing.assert_close(report.largest.values, expected, rtol=1e-5, atol=0)
    assert float(report.smallest.values) == pytest.approx(float(bottom[0]), rel=1e-5)


def test_top_eigenvalue_and_trace_are_those_of_pyhessian(
    trained: Supervised, digits: TensorDataset
) -> None:
    pyhessian = pytest.importorskip("pyhessian")
    network = copy.deepcopy(trained.network).eval()
    report = measured(trained, digits, batch_size=32)
    torch.manual_seed(0)  # PyHessian draws from the global generator
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        library = pyhessian.hessian(network, nn.CrossEntropyLoss(), data=digits.tensors, cuda=False)
        top = float(library.eigenvalues(maxIter=200, tol=1e-5)[0][0])
        traces = torch.tensor(library.trace(maxIter=100, tol=0))
    assert float(report.largest.values[0]) == pytest.approx(top, rel=1e-2)
    # both are estimates: their standard errors add in squares
    error = (float(traces.var()) / len(traces) + report.trace.standard_error**2) ** 0.5
    assert abs(report.trace.value - float(traces.mean())) < 4 * error
