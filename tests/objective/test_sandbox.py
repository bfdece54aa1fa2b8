"""Inside the sandbox a step is a function; outside nothing has happened."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lightning_hessian.errors import RefusedError
from lightning_hessian.sandbox import Sandbox
from tests.helpers.fingerprint import fingerprint, global_state

F32, F64 = torch.float32, torch.float64


def sandbox(module: nn.Module, dtype: torch.dtype = F32, **options: Any) -> Sandbox:
    return Sandbox(module, mode="eval", seed=1, dtype=dtype, **options)


def backward_inside(module: nn.Module, loss: Callable[[], Tensor], dtype: torch.dtype) -> None:
    """As the self-check does: twice the derivative, and `backward()` on copies."""
    with sandbox(module, dtype, copies=dtype == F64) as inside:
        for index in range(2):
            inside.reset(index)
            first = torch.autograd.grad(loss(), list(module.parameters()), create_graph=True)
            sum(g.square().sum() for g in first if g.requires_grad)
        if dtype == F64:
            inside.reset(0)
            loss().backward()


@pytest.mark.parametrize("dtype", [F32, F64])
def test_global_state_is_put_back(dtype: torch.dtype) -> None:
    module = nn.Linear(2, 2)
    before = global_state()
    with sandbox(module, dtype) as inside:
        inside.reset(3)
        torch.rand(3), np.random.rand(3), random.random()  # noqa: NPY002
        assert torch.get_default_dtype() == dtype
        assert global_state() != before
    assert global_state() == before


def test_state_is_put_back_when_entering_fails() -> None:
    module = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 2))
    before = dict(fingerprint(module)) | global_state()
    with (
        patch.object(Sandbox, "_set_flags", side_effect=MemoryError("too large")),
        pytest.raises(MemoryError, match="too large"),
        sandbox(module, F64),
    ):
        pass
    assert dict(fingerprint(module)) | global_state() == before


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("dtype", [F32, F64])
def test_derivatives_exist_inside_where_the_caller_takes_none(mode: Any, dtype: Any) -> None:
    module = nn.Linear(2, 1)
    with mode():
        backward_inside(module, lambda: module(torch.ones(1, 2).to(dtype)).square().sum(), dtype)
        assert not torch.is_grad_enabled()
        assert torch.is_inference_mode_enabled() == (mode is torch.inference_mode)


@pytest.mark.parametrize("dtype", [F32, F64])
def test_parameters_keep_identity_address_and_flat_weights(dtype: torch.dtype) -> None:
    module = nn.LSTM(2, 3, num_layers=2)
    before = [(id(p), p.data_ptr(), p._version) for p in module.parameters()]
    flat = [id(p) for p in module._flat_weights]
    backward_inside(module, lambda: module(torch.ones(4, 1, 2).to(dtype))[0].sum(), dtype)
    assert [(id(p), p.data_ptr(), p._version) for p in module.parameters()] == before
    assert [id(p) for p in module._flat_weights] == flat


def test_lstm_computes_in_float64_and_carries_its_hidden_state() -> None:
    class Carrying(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.hidden = nn.LSTM(2, 3), (torch.zeros(1, 1, 3), torch.zeros(1, 1, 3))

        def forward(self, x: Tensor) -> Tensor:
            out, hidden = self.lstm(x, self.hidden)
            self.hidden = tuple(h.detach() for h in hidden)
            return out.sum()

    module = Carrying()
    hidden = module.hidden
    with sandbox(module, F64, copies=True) as inside:
        values = []
        for _ in range(2):
            inside.reset(0)
            values.append(module(torch.ones(4, 1, 2, dtype=F64)))
        assert values[0].dtype == F64
        assert torch.equal(*values)
    assert module.hidden is hidden


@pytest.mark.parametrize("dtype", [F32, F64])
def test_gradient_accumulators_and_their_hooks_survive(dtype: torch.dtype) -> None:
    module, fired = nn.Linear(2, 1), []
    weight = module.weight
    weight.register_hook(lambda g: fired.append("tensor"))
    weight.register_post_accumulate_grad_hook(lambda p: fired.append("accumulated"))
    accumulator = weight.view_as(weight).grad_fn.next_functions[0][0]
    accumulator.register_hook(lambda *_: fired.append("node"))
    accumulator.register_prehook(lambda *_: fired.append("before node"))
    backward_inside(module, lambda: module(torch.ones(1, 2).to(dtype)).square().sum(), dtype)
    assert fired == []
    module(torch.ones(1, 2)).sum().backward()
    assert sorted(fired) == ["accumulated", "before node", "node", "tensor"]
    assert weight.view_as(weight).grad_fn.next_functions[0][0] is accumulator


def test_hooks_that_the_step_registers_are_gone_and_removable_handles_still_work() -> None:
    module, fired = nn.Linear(2, 1), []
    handle = module.weight.register_hook(lambda g: fired.append(1))

    def loss() -> Tensor:
        module.weight.register_hook(lambda g: fired.append(2))
        module.bias.register_hook(lambda g: fired.append(3))
        return module(torch.ones(1, 2)).square().sum()

    with sandbox(module) as inside:
        for expected in (2, 4):  # not one more with each evaluation
            inside.reset(0)
            torch.autograd.grad(loss(), list(module.parameters()))
            assert len(fired) == expected
    fired.clear()
    module(torch.ones(1, 2)).sum().backward()
    assert fired == [1]
    handle.remove()
    module(torch.ones(1, 2)).sum().backward()
    assert fired == [1]


def test_graph_that_the_user_keeps_can_still_be_run_backward() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    module.register_buffer("queue", torch.ones(3, 2))
    module.eval()
    module.kept = (module(torch.ones(4, 2)) * module.queue[0]).square().sum()

    def loss() -> Tensor:
        module.train()
        module.queue[0] = 5.0
        return module(torch.rand(4, 2)).square().sum()

    backward_inside(module, loss, F32)
    module.kept.backward()
    assert module[0].weight.grad is not None


def test_graph_that_the_step_would_use_up_stays_the_users() -> None:
    module = nn.Linear(2, 1)
    module.kept = module(torch.ones(1, 2)).square().sum()
    with sandbox(module) as inside:
        inside.reset(0)
        with pytest.raises(RuntimeError, match="does not require grad"):
            module.kept.backward()
    module.kept.backward()
    assert module.weight.grad is not None


def test_leaf_beside_the_parameters_requires_grad_inside_in_float64() -> None:
    module = nn.Linear(2, 1)
    module.extra = torch.ones(2, requires_grad=True)
    with sandbox(module, F64):
        (gradient,) = torch.autograd.grad(module(module.extra).sum(), module.extra)
    assert gradient.dtype == F64


def test_regulariser_through_a_list_outside_of_the_module_sees_the_copies() -> None:
    module = nn.Linear(2, 1)
    groups = [{"params": list(module.parameters())}]
    with sandbox(module, F64, foreign=[groups], copies=True):
        assert groups[0]["params"][0] is module.weight
        assert module.weight.dtype == F64
    assert groups[0]["params"][0] is module.weight
    assert module.weight.dtype == F32


def test_flags_are_set_by_attribute_and_put_back() -> None:
    class Stubborn(nn.Module):
        def train(self, mode: bool = True) -> Any:
            raise AssertionError("a frozen layer says no")

    module = nn.Sequential(nn.Dropout(), Stubborn())
    module[1].training = True
    module[0].training = False
    with sandbox(module):
        assert [part.training for part in module.modules()] == [False] * 3
        module[0].training = True
    assert [part.training for part in module.modules()] == [True, False, True]
    flags = {module[0]: True, module[1]: False}
    with Sandbox(module, mode="train", seed=0, dtype=F32, train_flags=flags):
        assert [part.training for part in module.modules()] == [True, True, False]
    assert [part.training for part in module.modules()] == [True, False, True]


@pytest.mark.parametrize("kind", ["iterator", "generator", "loader", "file"])
def test_step_that_uses_up_what_the_module_holds_is_refused(kind: str, tmp_path: Path) -> None:
    def numbers() -> Any:
        yield from range(3)

    module = nn.Linear(2, 1)
    with (tmp_path / "trace.txt").open("w") as file:
        module.held = {
            "iterator": iter([0, 1, 2]),
            "generator": numbers(),
            "loader": iter(torch.utils.data.DataLoader(range(3))),
            "file": file,
        }[kind]
        with sandbox(module), pytest.raises(RefusedError, match="position cannot be put back"):
            module.held.write("x") if kind == "file" else next(module.held)
        assert kind == "file" or int(next(module.held)) == 0
    assert (tmp_path / "trace.txt").read_text() == ""


def test_sandbox_outside_of_its_block_refuses() -> None:
    with pytest.raises(RuntimeError, match="inside its `with` block"):
        sandbox(nn.Linear(1, 1)).reset(0)


def test_displaced_parameters_come_back_with_their_bits() -> None:
    module = nn.Linear(2, 1)
    bits = module.weight.detach().clone()
    with sandbox(module) as inside:
        with inside.displaced([module.weight], [torch.ones(1, 2)]):
            inside.reset(0)
            assert torch.equal(module.weight, bits + 1)
        assert torch.equal(module.weight, bits)


SWITCHES = {
    "cuda.matmul.fp32_precision": "tf32",
    "mkldnn.matmul.fp32_precision": "bf16",
    "cudnn.benchmark": True,
}


@pytest.mark.parametrize("name", SWITCHES)
def test_precision_is_full_inside_and_the_users_switches_come_back(name: str) -> None:
    *path, last = name.split(".")
    owner: Any = torch.backends
    for part in path:
        owner = getattr(owner, part)
    before = getattr(owner, last)
    try:
        setattr(owner, last, SWITCHES[name])
        # cuDNN's switches can be set without cuDNN
        present = patch.object(torch.backends.cudnn, "is_available", return_value=True)
        with present, sandbox(nn.LSTM(1, 1)):
            assert getattr(owner, last) in ("ieee", False)
            assert not torch.backends.cudnn.enabled
        assert getattr(owner, last) == SWITCHES[name]
        assert torch.backends.cudnn.enabled
    finally:
        setattr(owner, last, before)


def test_user_of_the_new_precision_switches_is_measured() -> None:
    torch.backends.fp32_precision = "tf32"
    try:
        with sandbox(nn.Linear(1, 1)):
            assert torch.backends.cuda.matmul.fp32_precision == "ieee"
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
    finally:
        torch.backends.fp32_precision = "none"
