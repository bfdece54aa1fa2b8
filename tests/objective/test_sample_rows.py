"""Cutting collated batches into samples, of whatever they are made."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_hessian.batches import FrozenBatch
from lightning_hessian.errors import RefusedError
from lightning_hessian.objective.samples.rows import joined, rows_of

Pair = namedtuple("Pair", ["inputs", "targets"])
X, Y = torch.arange(12.0).view(4, 3), torch.arange(4)


@dataclass
class Record:
    inputs: Tensor
    name: str


class Tokens:
    """Holds its tensors in attributes, as a tokeniser's output does."""

    def __init__(self, ids: Tensor) -> None:
        self.ids, self.padding = ids, "right"


def batch(data: Any, count: int = 4) -> FrozenBatch:
    return FrozenBatch(data, count, 3, count)


def cut(data: Any, rows: list[int], count: int = 4) -> Any:
    return rows_of(batch(data, count), rows).data


def test_tensors_arrays_and_collections_are_cut_along_the_first_dimension() -> None:
    assert cut(X, [1, 3]).equal(X[[1, 3]])
    assert np.array_equal(cut(Y.numpy(), [2]), [2])
    for data in ([X, Y], (X, Y), Pair(X, Y)):
        found = cut(data, [2])
        assert type(found) is type(data)
        assert found[0].equal(X[2:3])
        assert found[1].equal(Y[2:3])
    found = cut(OrderedDict(x=X, nested={"y": [Y]}, name="train", n=7, none=None), [0, 2])
    assert found["x"].equal(X[[0, 2]])
    assert found["nested"]["y"][0].tolist() == [0, 2]
    assert (found["name"], found["n"], found["none"]) == ("train", 7, None)


def test_objects_are_cut_in_their_attributes_and_stay_as_they_are() -> None:
    record, tokens = Record(X, "first"), Tokens(X)
    found = cut([record, tokens], [1])
    assert found[0].inputs.equal(X[1:2])
    assert found[0].name == "first"
    assert found[1].ids.equal(X[1:2])
    assert record.inputs is X
    assert tokens.ids is X


def test_lists_with_one_thing_for_each_sample_are_cut_by_position() -> None:
    texts = ["a", "b", "c", "d"]
    images = [torch.zeros(2 + i, 5) for i in range(4)]
    found = cut({"texts": texts, "images": images, "y": Y}, [1, 3])
    assert found["texts"] == ["b", "d"]
    assert [image.shape[0] for image in found["images"]] == [3, 5]
    assert found["y"].tolist() == [1, 3]


def test_a_pair_of_tensors_is_no_list_of_two_samples() -> None:
    found = cut([X[:2], Y[:2]], [1], count=2)
    assert found[0].equal(X[1:2])
    assert found[1].tolist() == [1]


def test_the_batch_keeps_its_index_and_is_weighed_anew() -> None:
    found = rows_of(batch(X), [0, 1])
    assert (found.index, found.weight, found.num_samples) == (3, 2, 2)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({"nodes": torch.zeros(9, 2), "y": Y}, r"a Tensor of shape \(9, 2\)"),
        ([X, torch.tensor(1.0)], r"a Tensor of shape \(\)"),
        (torch.eye(4).to_sparse(), "a tensor of layout torch.sparse_coo"),
        ([X, np.zeros(3)], r"a ndarray of shape \(3,\)"),
        (iter([X]), "a list_iterator"),
    ],
)
def test_what_is_not_certain_is_refused_with_the_way_out(data: Any, reason: str) -> None:
    match = rf"a batch of 4 samples cannot be cut into its samples: it holds {reason}.*`batch_size="
    with pytest.raises(RefusedError, match=match):
        rows_of(batch(data), [0])


def test_a_batch_of_one_sample_needs_no_cutting() -> None:
    graph = batch({"nodes": torch.zeros(9, 2)}, count=1)
    assert rows_of(graph, [0]) is graph


def test_samples_are_joined_where_they_fit() -> None:
    parts = [batch([X[i : i + 1], {"y": Y[i : i + 1], "name": "a"}], count=1) for i in range(3)]
    found = joined(parts)
    assert found is not None
    assert found.data[0].equal(X[:3])
    assert found.data[1]["y"].tolist() == [0, 1, 2]
    assert found.num_samples == 3


@pytest.mark.parametrize(
    "data",
    [
        (torch.zeros(1, 2), torch.zeros(1, 3)),
        (torch.zeros(2, 2), torch.zeros(3, 2)),
        (torch.zeros(()), torch.zeros(())),
        ({"a": X[:1]}, {"b": X[:1]}),
        ([X[:1]], [X[:1], X[:1]]),
        ("one", "other"),
        (X[:1], [X[:1]]),
    ],
)
def test_samples_that_do_not_fit_together_are_not_joined(data: Any) -> None:
    assert joined([batch(part, count=1) for part in data]) is None
