"""PyHessian called by hand on a model, criterion and data loader gives the same numbers."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import pyhessian
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from lightning_hessian.engines import pyhessian_spectrum
from lightning_hessian.loss import TrainingLoss
from lightning_hessian.options import PyHessian
from tests.helpers.fitting import classification_data
from tests.helpers.networks import Supervised, ask, mlp

SETTINGS = PyHessian(density_iter=12, density_n_v=2)


def _eig(matrix: Tensor, eigenvectors: bool) -> tuple[Tensor, Tensor]:
    """What users of PyHessian on current torch put in place of `torch.eig`."""
    values, vectors = torch.linalg.eig(matrix)
    return torch.view_as_real(values), vectors.real


@contextmanager
def _by_hand(dtype: torch.dtype) -> Iterator[None]:
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with patch.object(torch, "eig", _eig), torch.random.fork_rng(), torch.enable_grad():
            torch.manual_seed(11)
            yield
    finally:
        torch.set_default_dtype(default)


def _library(module: Supervised, dtype: torch.dtype, **data: Any) -> Any:
    network = copy.deepcopy(module.network).to(dtype)
    return pyhessian.hessian(network, nn.CrossEntropyLoss(), **data, cuda=False)


def _ours(loss: TrainingLoss) -> tuple[Any, list[tuple[Tensor, Tensor]]]:
    spectrum = pyhessian_spectrum(
        loss, num_eigenvalues=3, trace=True, density=True, solver=SETTINGS, seed=11
    )
    return spectrum, [(x.to(loss.dtype), y) for x, y in (b.data for b in loss.sample.batches)]


@pytest.fixture(scope="module")
def module() -> Supervised:
    torch.manual_seed(0)
    return Supervised(mlp(4, 8, 3))


# PyHessian's backward() leaves graphs in the gradients of the network given to it, and says so
@pytest.mark.sampled
@pytest.mark.filterwarnings("ignore:Using backward.. with create_graph=True:UserWarning")
@pytest.mark.parametrize(("precision", "limit"), [(64, 1e-12), (32, 1e-5)])
def test_numbers_are_those_of_pyhessian_by_hand(
    precision: int, limit: float, module: Supervised
) -> None:
    dtype = torch.float64 if precision == 64 else torch.float32
    spectrum, batches = ask(module, classification_data(), _ours, precision=precision)
    assert [len(x) for x, _ in batches] == [8, 8, 8, 2]
    with _by_hand(dtype):
        library = _library(module, dtype, dataloader=batches)
        eigenvalues, _ = library.eigenvalues(top_n=3)
        trace = library.trace()
        nodes, weights = library.density(iter=12, n_v=2)
    # the same operations on the same numbers: the limit is for another order of sums
    assert spectrum.largest.values.tolist() == pytest.approx(
        sorted(eigenvalues, reverse=True), rel=limit
    )
    assert spectrum.trace.num_probes == len(trace)
    assert spectrum.trace.value == pytest.approx(sum(trace) / len(trace), rel=limit)
    flat = torch.tensor(nodes).double().flatten()
    order = flat.argsort()
    moments = [
        (weights_ @ values, weights_ @ values.square())
        for values, weights_ in (
            (spectrum.density.nodes, spectrum.density.weights),
            (flat[order], torch.tensor(weights).double().flatten()[order] / 2),
        )
    ]
    torch.testing.assert_close(
        spectrum.density.nodes, flat[order], rtol=10 * limit, atol=10 * limit
    )
    torch.testing.assert_close(moments[0], moments[1], rtol=10 * limit, atol=0)


@pytest.mark.filterwarnings("ignore:Using backward.. with create_graph=True:UserWarning")
def test_numbers_are_those_of_a_single_batch_whose_graph_pyhessian_keeps(
    module: Supervised,
) -> None:
    data = classification_data()
    spectrum, batches = ask(module, data, _ours, batch_size=26)
    with _by_hand(torch.float64):
        library = _library(module, torch.float64, data=batches[0])
        eigenvalues, _ = library.eigenvalues(top_n=3)
        trace = library.trace()
    values = sorted(eigenvalues, reverse=True)
    assert spectrum.largest.values.tolist() == pytest.approx(values, rel=1e-10)
    assert spectrum.trace.value == pytest.approx(sum(trace) / len(trace), rel=1e-10)


def test_seed_decides_the_numbers(module: Supervised) -> None:
    def traces(loss: TrainingLoss) -> list[Any]:
        return [
            pyhessian_spectrum(
                loss, num_eigenvalues=0, trace=True, density=False, solver=SETTINGS, seed=seed
            ).trace
            for seed in (1, 1, 2)
        ]

    first, again, other = ask(module, classification_data(), traces)
    assert first.value == again.value
    assert first.value != other.value


def test_probes_are_distinct_where_the_step_draws_random_numbers(module: Supervised) -> None:
    noisy = Supervised(
        nn.Sequential(copy.deepcopy(module.network[0]), nn.Dropout(), nn.Linear(8, 3))
    )
    data: TensorDataset = classification_data()

    def trace(loss: TrainingLoss) -> Any:
        options = PyHessian(trace_maxIter=8, trace_tol=0)
        return pyhessian_spectrum(
            loss, num_eigenvalues=0, trace=True, density=False, solver=options, seed=0
        ).trace

    estimate = ask(noisy, data, trace, mode="train")
    # the same probe each time would have no scatter
    assert estimate.num_probes == 8
    assert estimate.standard_error > 1e-3 * abs(estimate.value)
