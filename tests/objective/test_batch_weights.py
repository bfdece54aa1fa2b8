"""What a batch weighs: what is certain is counted, what is ambiguous is refused."""

from __future__ import annotations

from collections import UserDict
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_sequence

from lightning_hessian.data import BatchWeights
from lightning_hessian.errors import RefusedError


@dataclass
class Pair:
    x: Tensor
    y: Tensor


def pair(count: int) -> tuple[Tensor, Tensor]:
    return torch.zeros(count, 4), torch.zeros(count)


def weights(*batches: Any, ends: tuple[int, ...] = (), **options: Any) -> list[float]:
    """Weights of batches in turn, some of which end an epoch."""
    judge = BatchWeights(options.get("weight_fn"), options.get("batch_size"), "the stream")
    found = [judge.freeze(b, i, ends_epoch=i in ends).weight for i, b in enumerate(batches)]
    assert judge.num_samples == options.get("num_samples", sum(found))
    return found


@pytest.mark.parametrize(
    "batch",
    [
        torch.zeros(6, 2),
        pair(6),
        {"x": torch.zeros(6), "names": ["a", "b"], "epoch": 3, "none": None},
        UserDict({"input_ids": torch.zeros(6, 3), "labels": torch.zeros(6)}),
        Pair(*pair(6)),
        [{"deep": pair(6)}, torch.zeros(6, 6, 6)],
        (SimpleNamespace(graph=1), torch.zeros(6)),
    ],
    ids=["tensor", "pair", "dict", "UserDict", "dataclass", "nested", "object beside"],
)
def test_tensors_that_agree_tell_the_number_of_samples(batch: Any) -> None:
    assert weights(batch) == [6]


@pytest.mark.parametrize(
    ("batch", "reason"),
    [
        ((torch.zeros(7, 3, 2), torch.zeros(3)), "the tuple holds tensors of first dim.* 3, 7"),
        ([torch.zeros(3, 9, 9), {"boxes": torch.zeros(2, 4)}], "the list holds .* 2, 3"),
        ((torch.tensor(0.5), torch.zeros(3, 2)), "dimensions 3, none"),
        (torch.tensor(1.0), "the Tensor holds tensors of first dimensions none"),
        (pack_sequence([torch.zeros(3), torch.zeros(2)]), "PackedSequence holds .* 3, 5"),
        (SimpleNamespace(x=torch.zeros(3)), "the SimpleNamespace holds no tensor"),
        (["a", "b"], "the list holds no tensor. Give `weight_fn=`"),
    ],
    ids=["time first", "detection", "number", "only a number", "packed", "object", "texts"],
)
def test_batches_that_do_not_tell_are_refused(batch: Any, reason: str) -> None:
    with pytest.raises(RefusedError, match=f"in a batch of the stream is unknown: .*{reason}"):
        weights(batch)
    assert weights(batch, weight_fn=lambda _: 2.5, num_samples=2) == [2.5]


def test_a_shorter_batch_may_end_an_epoch() -> None:
    sizes = (8, 8, 3, 8, 8)
    assert weights(*map(pair, sizes), ends=(2,)) == list(sizes)
    assert weights(pair(3), ends=(0,), batch_size=8) == [3]
    # each worker of a stream ends on one
    assert weights(*map(pair, (8, 8, 3, 5)), ends=(3,), batch_size=8) == [8, 8, 3, 5]


@pytest.mark.parametrize(
    ("lengths", "options", "reason"),
    [
        ((7, 9), {}, "first 2 tensors of length 7, then 2 of length 9"),
        ((9, 7), {}, "length 9, then 2 of length 7"),
        ((9, 7), {"ends": (0,)}, "length 9, then 2 of length 7"),
        ((7, 8), {"batch_size": 8}, "under `batch_size=8`: first 2 tensors of length 7"),
        ((9, 9), {"batch_size": 8}, "under `batch_size=8`: first 2 tensors of length 9"),
    ],
)
def test_batches_of_changing_length_are_refused(
    lengths: tuple[int, ...], options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(RefusedError, match=f"of the stream is ambiguous.*{reason}.*`weight_fn=`"):
        weights(*map(pair, lengths), **options)


def test_a_list_of_one_tensor_for_each_sample_is_refused_when_its_length_changes() -> None:
    images = [torch.zeros(3, 9, 9)] * 8
    with pytest.raises(RefusedError, match="first 8 tensors of length 3, then 5 of length 3"):
        weights(images, images[:5], ends=(1,))
    with pytest.raises(RefusedError, match="under `batch_size=8`: first 8 tensors of length 3"):
        weights(images, batch_size=8)


def test_how_samples_were_counted_is_told() -> None:
    def notes(batch: Any, weight_fn: Any) -> str:
        judge = BatchWeights(weight_fn, None, "the stream")
        judge.freeze(batch, 0, ends_epoch=False)
        return judge.origin

    assert notes(pair(3), None) == "counted by the first dimension of their tensors"
    assert notes(pair(3), len).startswith("weighted by `weight_fn`, counted by the first dim")
    assert notes(["a", "b"], len) == "weighted by `weight_fn`, which counts them"


def test_a_users_weights_leave_the_number_of_samples_to_the_tensors() -> None:
    def count_words(batch: Any) -> Tensor:
        return (batch["labels"] != -100).sum()

    labels = torch.tensor([[1, 2, -100], [3, -100, -100]])
    assert weights({"labels": labels}, weight_fn=count_words, num_samples=2) == [3.0]
