"""Products by kept gradient graphs against products by fresh ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from lightning_hessian.data import FrozenBatch, FrozenBatches
from lightning_hessian.hvp import ExactProducts
from lightning_hessian.linalg import rademacher
from lightning_hessian.loss import (
    KeptGraphs,
    ParameterSelection,
    TrainingLoss,
    free_memory,
    kept_graphs,
)
from lightning_hessian.loss.graph_memory import graph_bytes
from lightning_hessian.sandbox import Sandbox
from tests.helpers import hard_modules as hard

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "attention": hard.Attention,
    "LSTM": lambda: hard.Recurrent(nn.LSTM),
    "non-reentrant checkpoint": lambda: hard.Checkpointed(use_reentrant=False),
    "tied": hard.Tied,
    "unused": hard.WithUnused,
    "batch norm": lambda: hard.mlp(nn.BatchNorm1d(5)),
    "weight norm": lambda: hard.mlp(wrap=hard.weight_normed("weight", 0, old=False)),
}


class Step:
    """A network under cross-entropy, with what a test does to it before each evaluation."""

    def __init__(self, network: nn.Module, before: Callable[[int], None] = lambda _: None) -> None:
        self.network = network
        self.before = before
        self.evaluated: list[int] = []

    def __call__(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        self.before(index)
        self.evaluated.append(index)
        return F.cross_entropy(self.network(batch[0]), batch[1])


def batches(sizes: tuple[int, ...] = (5, 7, 3)) -> FrozenBatches:
    generator = torch.Generator().manual_seed(1)
    parts = tuple(
        FrozenBatch(
            (
                torch.randn(n, 4, generator=generator),
                torch.randint(0, 3, (n,), generator=generator),
            ),
            n,
            i,
            n,
        )
        for i, n in enumerate(sizes)
    )
    return FrozenBatches(parts, sum(sizes), "noise")


@contextmanager
def opened(
    step: Step, memory: int | None, *, mode: Any = "eval", dtype: torch.dtype = torch.float32
) -> Iterator[TrainingLoss]:
    with Sandbox(step.network, mode=mode, seed=0, dtype=dtype) as sandbox:
        parameters = ParameterSelection.of(step.network)
        products = partial(ExactProducts, graph_memory=memory)
        yield TrainingLoss(step, batches(), parameters, sandbox, products=products)


def products(
    step: Step, memory: int | None, *, times: int = 3, mode: Any = "eval"
) -> tuple[list[Tensor], TrainingLoss]:
    """Products with other vectors each time."""
    generator = torch.Generator().manual_seed(2)
    with opened(step, memory, mode=mode) as loss:
        found = [
            loss.products.matmat(rademacher(loss.size, 2, generator=generator))
            for _ in range(times)
        ]
    return found, loss


def graphs_of(loss: TrainingLoss) -> KeptGraphs:
    assert isinstance(loss.products, ExactProducts)
    return loss.products.graphs


def seeded(make: Callable[[], nn.Module]) -> Any:
    return hard.seeded(make).network


def mlp() -> nn.Module:
    return seeded(lambda: hard.mlp(nn.Tanh()))


@pytest.mark.sampled
@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("name", NETWORKS)
def test_kept_graphs_give_the_bits_of_fresh_ones(name: str, mode: str) -> None:
    fresh, _ = products(Step(seeded(NETWORKS[name])), 0, mode=mode)
    kept, loss = products(Step(seeded(NETWORKS[name])), None, mode=mode)
    # in training, batch normalisation moves its statistics
    is_pure = (name, mode) != ("batch norm", "train")
    assert (graphs_of(loss).reason is None) == is_pure
    assert len(graphs_of(loss)) == (3 if is_pure else 0)
    for one, other in zip(fresh, kept, strict=True):
        assert torch.equal(one, other)


def test_a_kept_graph_spares_the_forward_pass() -> None:
    step = Step(mlp())
    with opened(step, None) as loss:
        loss.gradient()
        step.evaluated.clear()
        vectors = torch.ones(loss.size, 1)
        for _ in range(4):
            loss.products.matmat(vectors)
    # once, for the comparison with a fresh graph: the gradient has left its own
    assert step.evaluated == [0]


def test_graphs_stay_within_their_memory() -> None:
    _, everything = products(Step(mlp()), None)
    whole = graphs_of(everything).num_bytes
    assert whole > 0
    for share in (0.4, 0.6, 0.95):
        _, loss = products(Step(mlp()), int(share * whole))
        assert 0 < graphs_of(loss).num_bytes <= share * whole
        assert 0 < len(graphs_of(loss)) < 3
    _, none = products(Step(mlp()), 0)
    assert (len(graphs_of(none)), none.products.graph_bytes) == (0, 0)


def test_the_bytes_of_a_graph_are_those_of_the_tensors_that_autograd_saves() -> None:
    network, (batch, *_) = mlp(), batches().batches
    parameters = list(network.parameters())
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = F.cross_entropy(network(batch.data[0]), batch.data[1])
        first = torch.autograd.grad(loss, parameters, create_graph=True)
    for parameter in parameters:
        saved.pop(parameter.untyped_storage().data_ptr(), None)
    assert graph_bytes(first, parameters) == pytest.approx(sum(saved.values()), rel=0.1)


class Scaled(nn.Module):
    """A loss that saves a buffer, which the step may change in place."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.register_buffer("scale", torch.ones(3))

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.tanh(self.layer(inputs)) * self.scale


def test_a_change_past_autograds_notice_is_noticed() -> None:
    def change(network: Scaled, index: int) -> None:
        network.scale.data.fill_(1.0 + index)

    fresh, _ = products(Step(seeded(Scaled)), 0)
    network = seeded(Scaled)
    plain, _ = products(Step(network), 0)
    assert torch.equal(plain[0], fresh[0])
    step = Step(network, lambda index: change(network, index))
    wanted, _ = products(step, 0)
    kept, loss = products(step, None)
    assert not torch.equal(wanted[0], plain[0])
    assert "the step changes" in str(graphs_of(loss).reason)
    assert len(graphs_of(loss)) == 0
    for one, other in zip(wanted, kept, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("by_data", [True, False])
@pytest.mark.parametrize("moving", [0, 1, 2])
def test_a_change_on_any_batch_leads_to_fresh_graphs(moving: int, by_data: bool) -> None:
    network = seeded(Scaled)

    def change(index: int) -> None:
        if index == moving:
            with torch.no_grad():
                (network.scale.data if by_data else network.scale).fill_(3.0)

    step = Step(network, change)
    wanted, _ = products(step, 0)
    kept, loss = products(step, None)
    assert moving not in [i for i in range(3) if graphs_of(loss).get(i) is not None]
    for one, other in zip(wanted, kept, strict=True):
        assert torch.equal(one, other)


def test_an_attribute_that_recomputed_activations_read_leads_to_fresh_graphs() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 5), nn.Linear(5, 3)
            self.mask: Tensor | None = None

        def inner(self, inputs: Tensor) -> Tensor:
            hidden = torch.tanh(self.first(inputs))
            return hidden if self.mask is None else hidden * self.mask

        def forward(self, inputs: Tensor) -> Tensor:
            hidden = checkpoint(self.inner, inputs, use_reentrant=False)
            assert isinstance(hidden, Tensor)
            return self.second(hidden)

    network = seeded(Masked)

    def change(index: int) -> None:
        network.mask = torch.arange(5.0) if index == 1 else None

    step = Step(network, change)
    wanted, _ = products(step, 0)
    kept, _ = products(step, None)
    for one, other in zip(wanted, kept, strict=True):
        assert torch.equal(one, other)


def test_running_out_of_memory_lets_the_graphs_go() -> None:
    step = Step(mlp())
    wanted, _ = products(step, 0)
    calls = 0

    def fail_once(index: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:  # the third batch of the gradient, whose graphs are kept
            raise torch.OutOfMemoryError("out of memory")

    kept, loss = products(Step(step.network, fail_once), None)
    assert len(graphs_of(loss)) == 0
    assert "out of memory" in str(graphs_of(loss).reason)
    for one, other in zip(wanted, kept, strict=True):
        assert torch.equal(one, other)


def test_graphs_that_cannot_be_looked_at_are_not_kept_and_it_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    step = Step(mlp())
    wanted, _ = products(step, 0)

    def fail(*_: object) -> int:
        raise RuntimeError("what was saved is gone")

    monkeypatch.setattr(kept_graphs, "graph_bytes", fail)
    kept, loss = products(step, None)
    assert len(graphs_of(loss)) == 0
    assert [note.code for note in loss.products.quality.notes] == ["graphs-not-kept"]
    assert "what was saved is gone" in str(loss.products.quality.notes[0])
    for one, other in zip(wanted, kept, strict=True):
        assert torch.equal(one, other)


def test_an_error_of_the_step_itself_is_raised() -> None:
    def fail(index: int) -> None:
        if index == 2:
            raise RuntimeError("a fault of the step")

    with opened(Step(mlp(), fail), None) as loss, pytest.raises(RuntimeError, match="of the step"):
        loss.gradient()


def test_other_weights_have_other_graphs() -> None:
    vectors = torch.ones(1, 1)
    with opened(Step(mlp()), None) as loss:
        direction = torch.ones(loss.size)
        vectors = direction[:, None]
        here = loss.products.matmat(vectors)
        with loss.displaced(direction, 0.1):
            there = loss.products.matmat(vectors)
        again = loss.products.matmat(vectors)
    assert torch.equal(here, again)
    assert not torch.allclose(here, there, rtol=1e-3)


def test_of_a_system_that_does_not_say_a_gibibyte_is_taken_as_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(self: Path, *_: Any, **__: Any) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)
    assert free_memory(torch.device("cpu")) == 2**30


def test_free_memory_is_a_number_of_bytes() -> None:
    assert 2**20 < free_memory(torch.device("cpu")) < 2**50
    assert free_memory(torch.device("meta")) == 2**30
