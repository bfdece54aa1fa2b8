"""PyHessian leaves nothing behind, and what it cannot do is refused."""

from __future__ import annotations

import gc
import random
import sys
import weakref
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lightning_hessian.engines import pyhessian_spectrum
from lightning_hessian.errors import NoExactProductsError, NonFiniteError, RefusedError
from lightning_hessian.loss import Conductor, TrainingLoss
from lightning_hessian.options import PyHessian
from lightning_hessian.processes import SingleProcess
from tests.helpers.fingerprint import fingerprint, global_state
from tests.helpers.fitting import classification_data
from tests.helpers.losses import opened
from tests.helpers.networks import Supervised, ask, mlp

FEW = PyHessian(eigenvalues_maxIter=3, trace_maxIter=2, density_iter=2)


def everything(loss: Any, **options: Any) -> Any:
    defaults: dict[str, Any] = {"num_eigenvalues": 1, "trace": True, "density": True, "seed": 0}
    return pyhessian_spectrum(loss, solver=FEW, **(defaults | options))


class Vector(nn.Module):
    """Parameters that a step may do anything with."""

    def __init__(self, *values: float) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(values, dtype=torch.float64))


def drawing_step(module: Vector) -> Any:
    """A step that draws from every global generator."""

    def step(batch: Any) -> Tensor:
        noise = random.random() + float(np.random.rand())  # noqa: NPY002
        return (module.w.pow(4) * (1 + noise + torch.rand(()))).sum()

    return step


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_nothing_is_left_changed(dtype: torch.dtype) -> None:
    module, fired = Vector(1.0, 2.0), []
    gradient = module.w.grad = torch.tensor([5.0, 6.0], dtype=torch.float64)
    module.w.register_hook(lambda g: fired.append(1))
    module.w.register_post_accumulate_grad_hook(lambda p: fired.append(2))
    library = sys.modules["pyhessian.hessian"]
    code = (torch.eig, library.torch, library.hessian.density, library.hessian.trace)
    before = dict(fingerprint(module)) | global_state()
    with opened(module, drawing_step(module), dtype=dtype) as loss:
        inside = global_state()
        everything(loss)
        assert global_state() == inside
    assert dict(fingerprint(module)) | global_state() == before
    assert module.w.grad is gradient
    assert gradient.tolist() == [5, 6]
    assert fired == []
    assert (torch.eig, library.torch, library.hessian.density, library.hessian.trace) == code


@pytest.mark.parametrize("fails_at", [1, 3, 7])
def test_nothing_is_left_changed_by_a_step_that_fails(fails_at: int) -> None:
    module, calls = Vector(1.0, 2.0), []

    def step(batch: Any) -> Tensor:
        calls.append(1)
        if len(calls) == fails_at:
            raise MemoryError("too large")
        return drawing_step(module)(batch)

    before = dict(fingerprint(module)) | global_state()
    with opened(module, step) as loss:
        inside = global_state()
        with pytest.raises(MemoryError, match="too large"):
            everything(loss)
        assert global_state() == inside
        assert module.w.grad is None
    assert dict(fingerprint(module)) | global_state() == before


def test_graphs_are_freed_without_the_garbage_collector() -> None:
    module = Vector(1.0, 2.0)
    graphs: list[Any] = []

    def step(batch: Any) -> Tensor:
        value = module.w.pow(4).sum()
        graphs.append(weakref.ref(value))
        return value

    gc.collect()
    gc.disable()
    try:
        with opened(module, step) as loss:
            everything(loss)
            assert all(graph() is None for graph in graphs)
            assert module.w.grad is None
    finally:
        gc.enable()


def test_products_are_counted_and_told() -> None:
    module, told, calls = Vector(1.0, 2.0, 4.0), [], []

    def step(batch: Any) -> Tensor:
        calls.append(1)
        return module.w.pow(4).sum()

    with opened(module, step, [None, None]) as loss:
        spectrum = everything(loss, on_products=told.append)
    assert told == [1] * spectrum.num_hvps
    assert len(calls) == 2 * spectrum.num_hvps
    assert spectrum.num_hvps <= FEW.max_hvps(3, num_eigenvalues=1, trace=True, density=True)


@pytest.mark.parametrize("is_conducted", [True, False])
def test_several_processes_are_refused(is_conducted: bool) -> None:
    module = Vector(1.0)
    two = type("Two", (SingleProcess,), {"size": 2})()
    with opened(module, drawing_step(module)) as loss:
        loss.processes = two
        asked = Conductor(loss, two) if is_conducted else loss
        with pytest.raises(RefusedError, match=r"one process only.*`solver=Krylov\(\)`"):
            everything(asked)


def test_differences_of_gradients_are_refused() -> None:
    module = Supervised(mlp(4, 3))
    with pytest.raises(RefusedError, match="no exact second derivative"):
        ask(module, classification_data(), everything, products="finite_difference")


def test_parameters_on_several_devices_are_refused() -> None:
    module = Vector(1.0)
    module.far = nn.Parameter(torch.ones(2, device="meta"))
    with (
        opened(module, drawing_step(module)) as loss,
        pytest.raises(RefusedError, match="are on cpu, meta"),
    ):
        everything(loss)


def test_loss_that_is_never_there_is_refused() -> None:
    with (
        opened(Vector(1.0), lambda _: None, [1, 2]) as loss,
        pytest.raises(RefusedError, match="returned None for each of the 2 frozen batches"),
    ):
        everything(loss)


def test_nothing_to_measure_is_an_error() -> None:
    module = Vector(1.0)
    with (
        opened(module, drawing_step(module)) as loss,
        pytest.raises(ValueError, match="nothing to measure by PyHessian"),
    ):
        everything(loss, num_eigenvalues=0, trace=False, density=False)


@pytest.mark.parametrize("quantity", ["num_eigenvalues", "trace", "density"])
def test_infinite_curvature_is_no_number(quantity: str) -> None:
    module = Vector(0.0, 1.0)
    wanted: dict[str, Any] = {"num_eigenvalues": 0, "trace": False, "density": False, quantity: 1}
    with opened(module, lambda _: module.w.abs().pow(1.5).sum()) as loss:
        assert bool(loss.gradient().vector.isfinite().all())
        with pytest.raises(NonFiniteError, match="product holds NaN or infinity"):
            everything(loss, **wanted)


def test_loss_that_is_not_finite_is_no_number() -> None:
    module = Vector(-1.0)
    with (
        opened(module, lambda _: module.w.log().sum()) as loss,
        pytest.raises(NonFiniteError, match="must be finite, got nan"),
    ):
        everything(loss)


def test_operation_without_second_derivative_is_refused() -> None:
    module = nn.Linear(2, 3).double()
    log_probabilities = torch.zeros(5, 1, 3, dtype=torch.float64)
    rest = (torch.tensor([[1, 2]]), torch.tensor([5]), torch.tensor([2]))

    def step(_: Any) -> Tensor:
        rated = (log_probabilities + module.weight.sum(dim=1)).log_softmax(dim=-1)
        return nn.functional.ctc_loss(rated, *rest)

    with (
        opened(module, step) as loss,
        pytest.raises(NoExactProductsError, match="without a second derivative"),
    ):
        everything(loss)


def test_loss_inside_no_sandbox_is_an_error() -> None:
    module = Vector(1.0)
    with opened(module, drawing_step(module)) as loss:
        kept: TrainingLoss = loss
    with pytest.raises(RuntimeError, match="inside its `with` block"):
        everything(kept)
