"""Batches of many kinds, cut into their samples."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from lightning_hessian.data import FrozenBatch
from lightning_hessian.errors import RefusedError
from lightning_hessian.sample_losses import exchanged, rows_of
from lightning_hessian.sample_losses.joining import joined
from tests.helpers.fitting import classification_data
from tests.helpers.hard_modules import mlp, seeded
from tests.helpers.sample_losses import by_hand, loop, measured

X = torch.arange(12.0).view(4, 3)
Y = torch.tensor([3, 1, 0, 2])
OF_ALL = ", which is of the whole batch"
NESTED = torch.nested.nested_tensor(list(X), layout=torch.jagged)


class Pair(NamedTuple):
    x: Tensor
    y: Tensor


@dataclass
class Record:
    x: Tensor
    names: list[str]


class Thing:
    def __init__(self) -> None:
        self.x, self.scale = X, 2.0


def batch(data: Any, count: int = 4) -> FrozenBatch:
    return FrozenBatch(data, count, 5, count)


def cut(data: Any, *rows: int) -> Any:
    found = rows_of(batch(data), rows)
    assert (found.num_samples, found.weight, found.index) == (len(rows), len(rows), 5)
    return found.data


def test_tensors_and_arrays_are_cut_along_their_first_dimension() -> None:
    assert cut(X, 2).equal(X[2:3])
    assert cut([X, Y], 1, 3)[1].equal(Y[[1, 3]])
    array = np.arange(8).reshape(4, 2)
    np.testing.assert_array_equal(cut((X, array), 3)[1], array[3:])


def test_containers_keep_their_kind() -> None:
    pair = cut(Pair(X, Y), 0)
    assert isinstance(pair, Pair)
    assert pair.y.tolist() == [3]
    found = cut(OrderedDict(b=X, a={"deep": (Y, "same", 3, None)}), 1)
    assert list(found) == ["b", "a"]
    assert isinstance(found, OrderedDict)
    assert found["a"]["deep"][0].tolist() == [1]
    assert found["a"]["deep"][1:] == ("same", 3, None)


def test_objects_are_copied_with_their_tensors_cut() -> None:
    thing = Thing()
    found = cut(thing, 2)
    assert found.x.equal(X[2:3])
    assert found.scale == 2.0
    assert thing.x is X
    record = cut(Record(X, ["a", "b", "c", "d"]), 0, 3)
    assert record.names == ["a", "d"]
    assert record.x.equal(X[[0, 3]])


def test_lists_of_one_thing_for_each_sample_are_cut_by_position() -> None:
    assert cut({"x": X, "text": ["a", "b", "c", "d"]}, 2)["text"] == ["c"]
    assert cut({"x": X, "n": (1, 2, 3, 4)}, 1)["n"] == (2,)
    ragged = [torch.ones(n) for n in (1, 2, 3, 5)]
    assert cut([X, ragged], 1)[1][0] is ragged[1]
    boxes = [{"box": torch.ones(n, 4)} for n in (1, 2, 3, 5)]
    assert cut((X, boxes), 3)[1] == [boxes[3]]


def test_one_sample_of_one_is_the_batch_itself_whatever_it_holds() -> None:
    whole = batch(torch.eye(3).to_sparse(), 1)
    assert rows_of(whole, [0]) is whole


class Graphs:
    """Nodes of four graphs in one tensor, as libraries of graphs collate them."""

    def __init__(self) -> None:
        self.x, self.batch = torch.ones(9, 2), torch.tensor([0, 0, 1, 1, 1, 2, 3, 3, 3])


class TakesItselfApart:
    """As the batches of PyTorch Geometric do; attributes it lacks are answered by its store."""

    def __init__(self, graphs: list[Tensor]) -> None:
        self.graphs = graphs

    def to_data_list(self) -> list[Tensor]:
        return self.graphs

    @classmethod
    def from_data_list(cls, graphs: list[Tensor]) -> TakesItselfApart:
        return cls(graphs)


def test_a_batch_of_graphs_takes_itself_apart() -> None:
    graphs = [torch.ones(n, 2) for n in (2, 3, 1, 3)]
    found = cut({"graphs": TakesItselfApart(graphs), "y": Y}, 1, 3)
    assert found["graphs"].graphs == [graphs[1], graphs[3]]
    assert found["y"].equal(Y[[1, 3]])
    with pytest.raises(RefusedError, match="it holds a TakesItselfApart of 3 items"):
        rows_of(batch(TakesItselfApart(graphs[:3])), [0])


class Follows(TakesItselfApart):
    """Has vectors that deal further parts to the graphs, if it is asked for them."""

    def __init__(self, graphs: list[Tensor], follow_batch: Sequence[str] = ()) -> None:
        super().__init__(graphs)
        self.names = ["x", "edges", "batch", *(f"{name}_batch" for name in follow_batch)]

    def keys(self) -> list[str]:
        return self.names

    @classmethod
    def from_data_list(cls, graphs: list[Tensor], follow_batch: Sequence[str] = ()) -> Follows:
        return cls(graphs, follow_batch)


def test_a_batch_of_graphs_is_put_together_again_with_what_it_had() -> None:
    graphs = [torch.ones(n, 2) for n in (2, 3, 1, 3)]
    assert cut(Follows(graphs, ["edges"]), 2).keys() == ["x", "edges", "batch", "edges_batch"]
    assert cut(Follows(graphs), 2).keys() == ["x", "edges", "batch"]


class Dictionary(dict[str, Any]):
    """Tensors with a batch size of their own, as those of tensordict: indexed as one."""

    def __init__(self, batch_size: tuple[int, ...], **tensors: Any) -> None:
        super().__init__(tensors)
        self.batch_size = torch.Size(batch_size)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return super().__getitem__(key)
        rows = {name: value[key] for name, value in self.items()}
        return Dictionary((len(key), *self.batch_size[1:]), **rows)

    def __setitem__(self, key: str, value: Any) -> None:
        raise RuntimeError("batch dimension mismatch")

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func is torch.cat
        names = [set(part) for part in args[0]]
        if any(each != names[0] for each in names):
            raise KeyError("other names")
        joint = {name: torch.cat([part[name] for part in args[0]]) for name in args[0][0]}
        return cls((sum(part.batch_size[0] for part in args[0]),), **joint)


def test_a_dictionary_of_tensors_is_indexed_and_joined_in_its_own_way() -> None:
    inner = Dictionary((4,), reward=Y)
    found = cut(Dictionary((4,), x=X, next=inner), 3, 1)
    assert (found.batch_size, found["next"].batch_size) == ((2,), (2,))
    assert found["x"].equal(X[[3, 1]])
    assert found["next"]["reward"].equal(Y[[3, 1]])
    parts = [batch(Dictionary((2,), x=X[:2]), 2), batch(Dictionary((2,), x=X[2:]), 2)]
    whole = joined(parts)
    assert whole is not None
    assert whole.data["x"].equal(X)
    assert joined([parts[0], batch(Dictionary((2,), y=X[2:]), 2)]) is None
    assert joined([parts[0], batch(Dictionary((1,), x=X[2:3]), 2)]) is None


@dataclass(slots=True, frozen=True)
class InSlots:
    x: Tensor
    __hidden: Tensor
    nothing: None = None

    @property
    def hidden(self) -> Tensor:
        return self.__hidden


def test_objects_with_slots_are_cut_too_though_they_be_frozen() -> None:
    whole = InSlots(X, Y)
    found = cut(whole, 1, 2)
    assert found.x.equal(X[1:3])
    assert found.hidden.equal(Y[1:3])
    assert found.nothing is None
    assert whole.x is X


def test_things_without_tensors_are_cut_by_position_if_there_is_one_for_each() -> None:
    things: list[Any] = [{"id": i, "file": PurePosixPath(f"{i}.png")} for i in range(4)]
    assert cut({"x": X, "about": things}, 2)["about"] == [things[2]]
    paths = tuple(PurePosixPath(f"{i}.png") for i in range(4))
    assert cut([X, paths], 0, 3)[1] == (paths[0], paths[3])
    assert cut([X, [np.float32(i) for i in range(4)]], 2)[1] == [2.0]


class Kind(Enum):
    ONE = 1


@pytest.mark.parametrize(
    "thing",
    [
        *(Thing, Kind.ONE, torch.relu, len, X.sum, partial(torch.add, X), torch.nn.Linear(4, 2)),
        *(math, torch.Generator(), np.dtype(int), np.float32(3)),
    ],
    ids=[
        *("class", "enumeration", "function", "built-in", "method", "partial", "layer"),
        *("module", "generator", "type of an array", "number of numpy"),
    ],
)
def test_classes_functions_and_layers_are_the_same_for_all_samples(thing: Any) -> None:
    own = Thing()
    own.kind = thing  # type: ignore[attr-defined]
    found = cut(own, 2)
    assert found.kind is thing
    assert found.x.equal(X[2:3])


class Locked:
    """Forbids what a cut would change."""

    def __init__(self) -> None:
        self.x = X

    def __copy__(self) -> Locked:
        raise AttributeError("not to be copied")


class Slotted:
    __slots__ = ("x",)


class Deals:
    """Four graphs of one node each, which the vector counts."""

    def __init__(self) -> None:
        self.x, self.batch = X, torch.arange(4)


class Counted:
    def __init__(self) -> None:
        self.x, self.count = X, 4

    def __len__(self) -> int:
        return self.count


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (Graphs(), r"it holds a Tensor of shape \(9, 2\) in a Graphs"),
        ([X, torch.eye(4).to_sparse()], r"it holds a tensor of layout torch.sparse_coo"),
        ([X, torch.tensor(1.0)], r"it holds a Tensor of shape \(\)"),
        ({"x": X.T}, r"it holds a Tensor of shape \(3, 4\)"),
        ([X, np.zeros(3)], r"it holds a ndarray of shape \(3,\)"),
        (NESTED, r"it holds a tensor of layout nested"),
        (MappingProxyType({"x": X}), r"it holds a mappingproxy, which cannot be changed"),
        ([X, Slotted()], r"it holds a Slotted"),
        (Locked(), r"AttributeError: not to be copied"),
        (Dictionary((3,), x=X), r"it holds a Dictionary of batch size \(3,\)"),
        (Deals(), f"it holds 'batch'{OF_ALL} in a Deals"),
        (
            {"x": X, "edges_batch": torch.arange(4)},
            r"it holds 'edges_batch', which is of the whole batch",
        ),
        (
            {"x": X, "batch_size": 4},
            r"it holds 'batch_size', which is of the whole batch",
        ),
        (Counted(), r"it holds a Counted, whose length would stay as it is"),
        ([X, [{"box": X}] * 4], r"of 4 things of the kind dict each may be of one sample"),
        (
            [X, [Thing() for _ in range(4)]],
            r"of 4 things of the kind Thing each may be of one sample",
        ),
    ],
)
def test_what_cannot_be_told_apart_is_refused(data: Any, reason: str) -> None:
    text = f"a batch of 4 samples cannot be cut into its samples: {reason}. Give `batch_size=1`"
    with pytest.raises(RefusedError, match=text):
        rows_of(batch(data), [0])


def test_four_things_for_four_samples_are_not_cut_twice() -> None:
    # four tensors of four rows are four parts of each sample, as collated
    parts = [X, X + 1, X + 2, X + 3]
    for part, whole in zip(cut(parts, 1), parts, strict=True):
        assert part.equal(whole[1:2])


def test_batches_of_one_are_joined_and_cut_again() -> None:
    singles = [batch(Pair(X[i : i + 1], Y[i : i + 1]), 1) for i in range(4)]
    whole = joined(singles)
    assert whole is not None
    assert (whole.num_samples, whole.weight) == (4, 4)
    assert whole.data.x.equal(X)
    assert rows_of(whole, [2]).data.y.equal(Y[2:3])


def test_a_text_of_each_and_arrays_are_joined() -> None:
    texts = ["a", "b", "b"]
    singles = [batch({"t": [t], "x": np.full((1, 2), i)}, 1) for i, t in enumerate(texts)]
    whole = joined(singles)
    assert whole is not None
    assert whole.data["t"] == texts
    np.testing.assert_array_equal(whole.data["x"], [[0, 0], [1, 1], [2, 2]])
    same = joined([batch([["a"], X[:1]], 1)] * 2)
    assert same is not None
    assert same.data[0] == ["a", "a"]


def test_batches_of_several_are_joined_and_cut_again() -> None:
    images = [torch.ones(3, i + 2) for i in range(4)]
    data = {"x": X, "t": ["a", "b", "c", "d"], "images": images, "n": np.arange(4), "k": 7}
    whole = joined([batch(cut(data, 0, 1), 2), batch(cut(data, 2), 1), batch(cut(data, 3), 1)])
    assert whole is None  # of a single image it is not certain whether it is a sample or a part
    whole = joined([batch(cut(data, 0, 1), 2), batch(cut(data, 2, 3), 2)])
    assert whole is not None
    assert (whole.num_samples, whole.weight) == (4, 4)
    assert whole.data["x"].equal(X)
    assert (whole.data["t"], whole.data["k"]) == (data["t"], 7)
    assert all(map(torch.equal, whole.data["images"], images))
    np.testing.assert_array_equal(whole.data["n"], data["n"])
    assert rows_of(whole, [1, 3]).data["t"] == ["b", "d"]


@pytest.mark.parametrize(
    "parts",
    [
        # padded to the longest of each batch: two parts of two samples are not four samples
        [[torch.ones(2, 3), torch.ones(2, 3)], [torch.ones(2, 4), torch.ones(2, 4)]],
        [torch.ones(2, 3), torch.ones(3, 3)],
        [torch.ones(2, 3), torch.ones(2, 3).double()],
        [{"x": torch.ones(2, 3), "k": 1}, {"x": torch.ones(2, 3), "k": 2}],
        [["a", "b", "c"], ["a", "b", "d"]],
    ],
)
def test_batches_of_several_that_do_not_fit_are_not_joined(parts: list[Any]) -> None:
    assert joined([batch(part, 2) for part in parts]) is None


def numbered(start: int, count: int) -> FrozenBatch:
    rows = torch.arange(start, start + count)
    return FrozenBatch({"x": rows, "k": 3}, count, start, count)


@pytest.mark.parametrize("count", [4, 5])
def test_batches_that_exchange_samples_keep_their_sizes_and_each_gets_some(count: int) -> None:
    batches = [numbered(0, count), numbered(count, count), numbered(2 * count, count)]
    rest = numbered(3 * count, 2)
    found = exchanged([*batches, rest])
    assert found is not None
    assert [b.num_samples for b in found] == [count, count, count, 2]
    assert [b.index for b in found] == [0, count, 2 * count, 3 * count]
    rows = [b.data["x"].tolist() for b in found]
    assert sorted(row for each in rows for row in each) == list(range(3 * count + 2))
    for number, each in enumerate(rows[:3]):
        assert len({row // count for row in each}) == 2, number
    assert found[3] is rest


@pytest.mark.parametrize(
    "batches",
    [
        [numbered(0, 4)],
        [numbered(0, 4), numbered(4, 3)],
        [numbered(0, 1), numbered(1, 1)],
        [numbered(0, 4), replace(numbered(4, 4), weight=0)],
        [batch(Thing()), batch(Thing())],
        [numbered(0, 4), replace(numbered(4, 4), weight=2)],
    ],
    ids=["single", "other size", "single samples", "repeat", "objects", "weighted"],
)
def test_there_may_be_nothing_to_exchange(batches: list[FrozenBatch]) -> None:
    assert exchanged(batches) is None


@pytest.mark.parametrize(
    "parts",
    [
        [torch.ones(1, 2), torch.ones(1, 3)],
        [{"x": X[:1]}, {"y": X[:1]}],
        [[X[:1]], [X[:1], X[:1]]],
        [torch.tensor(1.0), torch.tensor(2.0)],
        [[X[:1], 1], [X[:1], 2]],
        [X[:1], [X[:1]]],
        [Record(X[:1], ["a"]), Record(X[:1], ["b"])],
        [X[:1].to_sparse(), X[:1].to_sparse()],
    ],
)
def test_batches_that_do_not_fit_together_are_not_joined(parts: list[Any]) -> None:
    assert joined([batch(part, 1) for part in parts]) is None


def in_one_tensor(samples: list[Any]) -> Any:
    """Inputs of all samples in a row, as nodes of graphs are."""
    inputs, targets = zip(*samples, strict=True)
    return {"all": torch.cat(inputs), "y": torch.stack(targets)}


def with_a_number(samples: list[Any]) -> Any:
    """The number of samples beside them, which is of none."""
    return in_one_tensor(samples) | {"count": torch.tensor(len(samples))}


def flattened(m: Any, batch: Any) -> Tensor:
    return F.cross_entropy(m.network(batch["all"].view(-1, 4)), batch["y"])


@pytest.mark.parametrize("collate", [in_one_tensor, with_a_number])
def test_what_cannot_be_cut_is_measured_in_batches_of_one(collate: Any) -> None:
    data: TensorDataset = classification_data()
    # no normalisation: training goes on in batches of one
    module = by_hand(flattened, seeded(mlp).network)
    with pytest.raises(RefusedError, match=r"cannot be cut into its samples: .*`batch_size=1`"):
        measured(module, data, collate=collate)
    # neither can they be joined, so that nothing can be verified
    found = measured(module, data, collate=collate, batch_size=1)
    wanted = loop(module, data, precision=32, collate=collate)
    torch.testing.assert_close(found.values, wanted, rtol=0, atol=1e-6)
    assert found.notes[0].startswith("That a batch's loss is a mean over its samples could not be")
