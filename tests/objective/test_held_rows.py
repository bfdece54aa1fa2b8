"""Rows of a stream that come again in a later epoch, told by their bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_hessian.data.held_rows import HeldRows, cut

VALUES = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [-0.0, torch.nan]])
LABELS = torch.tensor([0, 1, 1, 0])


def batch(*rows: int) -> list[Tensor]:
    return [VALUES[list(rows)], LABELS[list(rows)]]


def held(*batches: Any) -> HeldRows:
    """After an epoch of some batches, each of them new, as another begins."""
    rows = HeldRows()
    rows.begin_epoch()
    assert [rows.new_of(each) for each in batches] == [None] * len(batches)
    rows.begin_epoch()
    return rows


def test_rows_of_an_earlier_epoch_are_known_in_whatever_batches_they_come() -> None:
    rows = held(batch(0, 1), batch(3))
    assert rows.new_of(batch(3, 0)) == []
    assert rows.new_of(batch(2, 1)) == [0]
    rows.begin_epoch()
    assert rows.new_of(batch(0, 1, 2, 3)) == []


def test_a_row_is_known_by_all_its_bits() -> None:
    rows = held(batch(0, 1, 3))
    other = batch(0, 1, 3)
    other[1] = other[1] + torch.tensor([0, 1, 0])
    assert rows.new_of(other) == [1]
    zero = [torch.tensor([[0.0, torch.nan]]), LABELS[3:]]
    assert rows.new_of(zero) is None


def test_equal_rows_of_an_epoch_are_rows_of_their_own() -> None:
    data = torch.cat([torch.arange(299.0), torch.zeros(1)])[:, None]
    rows = held(data)
    assert rows.new_of(data[[0, 299, 50]]) == []
    # of three there is one more than in the epoch before
    assert rows.new_of(torch.tensor([[1.0], [0.0]])) == [1]


def test_rows_that_are_often_equal_within_an_epoch_are_not_told_apart() -> None:
    coins = torch.tensor([0.0, 1.0, 1.0, 0.0])
    rows = HeldRows()
    for _ in range(3):
        rows.begin_epoch()
        assert rows.new_of(coins) is None


@dataclass
class Graph:
    nodes: Tensor
    name: str


@pytest.mark.parametrize(
    "make",
    [
        lambda x: {"x": x, "lengths": torch.tensor([2])},
        lambda x: (x, "a text", 3),
        lambda x: Graph(x, "one"),
        lambda x: x.sum(),
    ],
    ids=["lengths that differ", "text", "data class", "no dimension"],
)
def test_a_batch_whose_rows_are_not_known_is_known_as_a_whole(make: Any) -> None:
    first, other = make(torch.ones(3, 2)), make(torch.zeros(3, 2))
    rows = held(first)
    assert rows.new_of(other) is None
    assert rows.new_of(first) == []


@pytest.mark.parametrize(
    "thing",
    [
        [torch.ones(2), object()],
        torch.ones(2, 2).to_sparse(),
        torch.nn.Parameter(torch.ones(2)),
        ["text"],
    ],
    ids=["object", "sparse", "subclass", "no tensor"],
)
def test_what_bits_do_not_tell_is_new_each_time(thing: Any) -> None:
    assert held(thing).new_of(thing) is None


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(6).reshape(3, 2).to(torch.bfloat16),
        torch.tensor([True, False, True])[:2],
        torch.complex(torch.arange(3.0), -torch.arange(3.0)).conj(),
        torch.arange(12).reshape(3, 4).T[:3],
        torch.arange(4, dtype=torch.int8),
    ],
    ids=["bfloat16", "bool", "conjugated", "transposed", "int8"],
)
def test_every_kind_of_number_has_bits(tensor: Tensor) -> None:
    rows = held(tensor)
    assert rows.new_of(tensor.flip(0).clone()) == []


def test_rows_without_numbers_are_not_told_apart() -> None:
    assert held(torch.empty(3, 0)).new_of(torch.empty(3, 0)) is None


def test_a_cut_keeps_the_containers_and_what_asks_for_gradients() -> None:
    first, _ = batch(0, 1)
    given = {"x": first.requires_grad_(), "more": (LABELS[:2], Graph(first, "one"))[:1]}
    found = cut(given, [1])
    assert found["x"].tolist() == [[3.0, 4.0]]
    assert found["x"].requires_grad
    assert found["more"][0].tolist() == [1]
    assert given["x"].shape == (2, 2)
