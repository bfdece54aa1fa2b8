"""The snapshot finds state wherever it is kept, and puts it back bit by bit."""

from __future__ import annotations

import functools
import random
from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_hessian.sandbox import StateSnapshot
from lightning_hessian.sandbox.state import MAX_ELEMENTS


def holder(**attributes: Any) -> nn.Module:
    module = nn.Module()
    for name, value in attributes.items():
        setattr(module, name, value)
    return module


def restored(change: Any, *roots: object, foreign: tuple[object, ...] = ()) -> None:
    snapshot = StateSnapshot(roots, foreign)
    change()
    snapshot.restore()


def test_state_below_ten_modules_is_put_back() -> None:
    innermost = module = holder(steps=[1], table={"a": np.zeros(2)})
    for _ in range(10):
        module = holder(child=module)
    restored(lambda: (innermost.steps.append(2), innermost.table["a"].fill(3)), module)
    assert innermost.steps == [1]
    assert innermost.table["a"].tolist() == [0, 0]


def test_state_below_ten_plain_objects_is_put_back() -> None:
    innermost = thing = SimpleNamespace(count=1)
    for _ in range(10):
        thing = SimpleNamespace(inner=[thing])
    restored(lambda: setattr(innermost, "count", 2), holder(thing=thing))
    assert innermost.count == 1


def test_objects_in_a_cycle_are_put_back() -> None:
    first, second = SimpleNamespace(n=1), SimpleNamespace(n=1)
    first.other, second.other = second, first
    restored(lambda: setattr(second, "n", 2), holder(first=first))
    assert second.n == 1


@pytest.mark.parametrize(
    ("container", "change"),
    [
        ([1, 2], lambda c: c.clear()),
        ({"a": 1, "b": 2}, lambda c: c.pop("a")),
        ({3, 4}, lambda c: c.add(5)),
        (deque([1, 2], maxlen=2), lambda c: c.append(3)),
        (Counter("aab"), lambda c: c.update("bc")),
        (defaultdict(list, a=[1]), lambda c: c["b"].append(2)),
        (OrderedDict(a=1, b=2), lambda c: c.move_to_end("a")),
        (list(range(2 * MAX_ELEMENTS)), lambda c: c.pop()),
    ],
)
def test_container_is_put_back_with_its_order(container: Any, change: Any) -> None:
    def content() -> Any:
        return list(container.items()) if isinstance(container, dict) else list(container)

    before = content()
    snapshot = StateSnapshot([holder(container=container)])
    change(container)
    assert content() != before
    snapshot.restore()
    assert content() == before


class Slotted:
    __slots__ = ("__private", "absent", "count")

    def __init__(self) -> None:
        self.count, self.__private = 1, [1]

    def change(self) -> None:
        self.count, self.absent = 2, 3
        self.__private.append(2)

    def content(self) -> Any:
        return self.count, self.__private, hasattr(self, "absent")


@dataclass(frozen=True, slots=True)
class Frozen:
    items: list[int]


def test_slots_are_put_back_also_private_and_absent_ones() -> None:
    thing, frozen = Slotted(), Frozen([1])
    restored(lambda: (thing.change(), frozen.items.append(2)), holder(thing=thing, frozen=frozen))
    assert thing.content() == (1, [1], False)
    assert frozen.items == [1]


def test_closure_default_argument_and_function_attribute_are_put_back() -> None:
    calls = 0

    def hook(cache: list[int] = []) -> None:  # noqa: B006 - that is the state
        nonlocal calls
        calls += 1
        cache.append(calls)
        hook.last = calls  # type: ignore[attr-defined]

    def early() -> Any:
        return later

    module = holder(hooks=[functools.partial(hook), early])  # `later` is not assigned yet
    restored(hook, module)
    later = "assigned"
    assert early() == later
    assert calls == 0
    assert hook.__defaults__ == ([],)
    assert not hasattr(hook, "last")


def test_state_behind_a_bound_method_is_put_back() -> None:
    class Meter:
        def __init__(self) -> None:
            self.total = 0

        def add(self) -> None:
            self.total += 1

    meter = Meter()
    restored(meter.add, holder(callback=meter.add))
    assert meter.total == 0


GENERATORS = {
    "torch": (torch.Generator(), lambda g: torch.rand((), generator=g)),
    "numpy": (np.random.default_rng(1), lambda g: g.random()),
    "numpy bits": (np.random.PCG64(1), lambda g: g.random_raw()),
    "numpy legacy": (np.random.RandomState(1), lambda g: g.rand()),
    "python": (random.Random(1), lambda g: g.random()),
    "sobol": (torch.quasirandom.SobolEngine(1), lambda g: g.draw(1)),
}


@pytest.mark.parametrize("kind", GENERATORS)
def test_generator_repeats_its_numbers_after_restore(kind: str) -> None:
    generator, draw = GENERATORS[kind]
    snapshot = StateSnapshot([holder(generator=generator)])
    first = [float(draw(generator)) for _ in range(3)]
    snapshot.restore()
    assert [float(draw(generator)) for _ in range(3)] == first


def test_generator_without_a_state_is_left_alone() -> None:
    snapshot = StateSnapshot([holder(generator=random.SystemRandom())])
    snapshot.reseed(1)
    snapshot.restore()
    assert not snapshot.generators


def test_tensor_keeps_its_memory_and_the_object_its_place() -> None:
    module = nn.Linear(3, 3)
    address, weight = module.weight.data_ptr(), module.weight
    bits = module.weight.detach().clone()

    def change() -> None:
        module.weight.data = module.weight.data.t()  # same address and shape, other strides
        module.weight = nn.Parameter(torch.zeros(3, 3))
        module.bias.data = torch.ones(5, dtype=torch.float64)

    restored(change, module)
    assert module.weight is weight
    assert module.weight.data_ptr() == address
    assert torch.equal(module.weight, bits)
    assert (module.bias.shape, module.bias.dtype) == ((3,), torch.float32)


def test_leaf_that_became_the_head_of_a_graph_is_a_leaf_again() -> None:
    weight, state = nn.Parameter(torch.ones(2)), torch.zeros(2)
    restored(lambda: state.copy_(2 * weight), holder(weight=weight, state=state))
    assert state.is_leaf
    assert not state.requires_grad
    assert state.tolist() == [0, 0]


def test_tied_tensors_are_held_once() -> None:
    a, b = nn.Linear(2, 2), nn.Linear(2, 2)
    b.weight = a.weight
    assert len(StateSnapshot([nn.ModuleList([a, b])]).tensors) == 3


def test_inference_tensors_are_put_back() -> None:
    with torch.inference_mode():
        cache = torch.ones(2)

    def change() -> None:
        with torch.inference_mode():
            cache.add_(1)

    restored(change, holder(cache=cache))
    assert cache.tolist() == [1, 1]


def test_what_has_no_plain_bits_is_passed_over() -> None:
    module = holder(
        lazy=nn.LazyLinear(3),
        expanded=torch.ones(1).expand(4),
        sparse=torch.eye(2).to_sparse(),
        meta=torch.empty(2, device="meta"),
    )
    snapshot = StateSnapshot([module])
    snapshot.restore()
    assert not snapshot.tensors


def test_gradients_are_put_back_by_object_and_bits_sparse_ones_by_object() -> None:
    dense, table = nn.Linear(2, 1), nn.Embedding(4, 2, sparse=True)
    (dense(torch.ones(1, 2)).sum() + table(torch.tensor([1])).sum()).backward()
    gradients = dense.weight.grad, table.weight.grad

    def change() -> None:
        gradients[0].mul_(3)
        dense.weight.grad = table.weight.grad = None

    restored(change, nn.ModuleList([dense, table]))
    assert dense.weight.grad is gradients[0]
    assert table.weight.grad is gradients[1]
    assert dense.weight.grad.tolist() == [[1, 1]]


def test_data_of_a_data_set_is_not_copied_but_its_small_state_is() -> None:
    data = TensorDataset(torch.zeros(1000, 1000))
    data.seen = torch.zeros(3)
    roots = holder(train_set=data, loader=DataLoader(data))
    snapshot = StateSnapshot([roots])
    data.seen += 1
    snapshot.restore()
    assert data.seen.tolist() == [0, 0, 0]
    assert id(data.tensors[0]) not in snapshot.tensors


def test_replacement_reaches_tuples_and_named_tuples_inside_containers() -> None:
    class Pair(NamedTuple):
        h: Tensor
        c: Tensor

    old, new = torch.zeros(1), torch.ones(1)
    module = holder(hidden=(old, [old]), pair=Pair(old, old), recent=deque([(old,)]))
    snapshot = StateSnapshot([module])
    hidden = module.hidden
    snapshot.replace({id(old): new})
    assert module.hidden[0] is new
    assert module.hidden[1][0] is new
    assert isinstance(module.pair, Pair)
    assert module.pair.c is new
    assert module.recent[0][0] is new
    snapshot.restore()
    assert module.hidden is hidden
    assert module.hidden[1][0] is old
    assert module.recent[0][0] is old
