"""Batches of every make, from an indexed training set and captured from a stream."""

from __future__ import annotations

import copy
from collections import UserDict, namedtuple
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset

from tests.callbacks.test_capture import Captured
from tests.helpers import hard_modules as hard
from tests.helpers.fitting import Classifier, classification_data, trainer

Named = namedtuple("Named", ["inputs", "targets"])


class Encoding(UserDict):  # type: ignore[type-arg]
    """As the tokenizers of transformers return: a dict that is none, with attributes and `to`."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self.data[name]
        except KeyError as error:
            raise AttributeError(name) from error

    def __getstate__(self) -> Any:
        return {"data": self.data}

    def __setstate__(self, state: Any) -> None:
        self.data = state["data"]

    def to(self, device: Any) -> Encoding:
        self.data = {key: value.to(device) for key, value in self.data.items()}
        return self


@dataclass
class Record:
    inputs: Tensor
    targets: Tensor


class Store:
    def __init__(self, inputs: Tensor, targets: Tensor) -> None:
        self.mapping = {"inputs": inputs, "targets": targets}


class Graph:
    """As of torch_geometric: tensors in a store of its own, moved in place by `to`."""

    def __init__(self, inputs: Tensor, targets: Tensor) -> None:
        self.store = Store(inputs, targets)

    inputs = property(lambda self: self.store.mapping["inputs"])
    targets = property(lambda self: self.store.mapping["targets"])

    def to(self, device: Any) -> Graph:
        for key, value in self.store.mapping.items():
            self.store.mapping[key] = value.to(device)
        return self


class Takes(Classifier):
    """Reads a batch by a function, and leaves it spoiled."""

    def __init__(self, read: Callable[[Any], tuple[Tensor, Tensor]]) -> None:
        super().__init__(hard.seeded(lambda: hard.mlp()).network, lr=0.0)
        self.read = read

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        inputs, targets = self.read(batch)
        loss = F.cross_entropy(self.network(inputs.clone()), targets)
        inputs.fill_(1e9)
        return loss


KINDS: dict[str, tuple[Any, Any]] = {
    "tuple": (lambda x, y: (x, y), lambda b: b),
    "dict that is popped": (
        lambda x, y: {"inputs": x, "targets": y},
        lambda b: (b.pop("inputs"), b.pop("targets")),
    ),
    "UserDict": (
        lambda x, y: Encoding(inputs=x, targets=y),
        lambda b: (b["inputs"], b.pop("targets")),
    ),
    "dataclass": (Record, lambda b: (b.inputs, b.targets)),
    "namedtuple": (Named, lambda b: (b.inputs, b.targets)),
    "object": (Graph, lambda b: (b.inputs, b.targets)),
    "nested": (
        lambda x, y: {"deep": [x, {"graph": Graph(x, y)}], "text": ["a"] * len(x)},
        lambda b: (b["deep"][0], b["deep"][1]["graph"].targets),
    ),
}


class Streamed(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter(classification_data())


@pytest.fixture(scope="module")
def wanted() -> Tensor:
    """Of all the data, by differences."""
    return hard.hessian_by_differences(Classifier(hard.seeded(lambda: hard.mlp()).network))


@pytest.mark.parametrize("captures", [False, True], ids=["indexed", "captured"])
@pytest.mark.parametrize("kind", KINDS)
def test_batches_of_every_make_give_the_same_hessian(
    kind: str, captures: bool, wanted: Tensor
) -> None:
    make, read = KINDS[kind]

    def collate(samples: Any) -> Any:
        return make(*torch.utils.data.default_collate(samples))

    probe: Any = (Captured if captures else hard.DenseHessian)(
        precision=64, num_samples=26, weight_fn=lambda batch: len(read(copy.deepcopy(batch))[1])
    )
    data: Any = Streamed() if captures else classification_data()
    train = DataLoader(data, batch_size=10, collate_fn=collate)
    trainer(probe).fit(Takes(read), train)
    assert [batch.weight for batch in probe.batches] == [10, 10, 6]
    assert probe.batches[0].data is not None
    assert hard.off_by(probe.matrix, wanted) < 1e-8
    # everything in the batch was computed in float64, so the self-check has nothing to remark
    assert probe.notes == ()
