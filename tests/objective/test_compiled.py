"""Compiled modules: their backward has no second derivative, so they run eagerly inside."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.helpers import hard_modules as hard
from tests.helpers.fitting import Classifier, classification_data, loader, trainer


class Quiet(Classifier):
    """Does not log: under torch 2.13 a wholly compiled module that logs crashes by itself."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        inputs, targets = batch
        return F.cross_entropy(self.network(inputs), targets)


@pytest.fixture(autouse=True)
def _forget_compiled_code() -> None:
    # after many recompilations of one forward, torch would go on eagerly
    torch.compiler.reset()


def compiled(thing: Any) -> Any:
    return torch.compile(thing, backend="aot_eager")


def network() -> nn.Module:
    return hard.seeded(lambda: hard.mlp()).network


def test_a_compiled_part_has_no_second_derivative_by_itself() -> None:
    inputs, targets = classification_data().tensors
    part = compiled(network())
    parameters = list(part.parameters())
    loss = F.cross_entropy(part(inputs), targets)
    first = torch.autograd.grad(loss, parameters, create_graph=True)
    with pytest.raises(RuntimeError, match="does not currently support double backward"):
        torch.autograd.grad(first, parameters, [torch.ones_like(g) for g in first])


def test_a_part_compiled_in_place_is_measured_exactly() -> None:
    module = Quiet(hard.seeded(hard.Tied).network)
    module.network.compile(backend="aot_eager")
    wanted = hard.measure(Quiet(hard.seeded(hard.Tied).network))
    assert hard.measure(module).matrix.equal(wanted.matrix)


def test_a_wholly_compiled_module_is_measured_exactly_and_trains_on_compiled() -> None:
    wanted = hard.DenseHessian()
    plain = Quiet(network())
    trainer(wanted, max_epochs=2).fit(plain, loader())
    probe = hard.DenseHessian()
    module = Quiet(network())
    trainer(probe, max_epochs=2).fit(compiled(module), loader())
    assert probe.matrix.equal(wanted.matrix)
    assert probe.notes == ()
    for trained, reference in zip(module.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(trained, reference)


@pytest.mark.parametrize("in_place", [True, False])
def test_compiled_parts_fail_without_our_stance(
    monkeypatch: pytest.MonkeyPatch, in_place: bool
) -> None:
    monkeypatch.setattr(torch.compiler, "set_stance", lambda _: contextlib.nullcontext())
    module = Quiet(hard.Tied())
    if in_place:
        module.network.compile(backend="aot_eager")
    else:
        module.network = compiled(module.network)
    with pytest.raises(
        RuntimeError, match=r"double backward|create_graph=False|in-place operation"
    ):
        hard.measure(module)
