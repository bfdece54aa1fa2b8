"""Tensors behind the attributes of objects, packed sequences, and losses in mappings."""

from __future__ import annotations

from collections import OrderedDict, UserDict
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence, pack_sequence, pad_packed_sequence
from torch.utils.data import Dataset

from lightning_hessian.data import cast_floats
from tests.helpers import hard_modules as hard
from tests.helpers.fitting import Classifier, classification_data, loader, trainer


class Store:
    """What holds a graph's tensors, and knows the graph that it belongs to."""

    def __init__(self, parent: object, tensors: dict[str, Tensor]) -> None:
        self.parent, self.mapping = parent, tensors


class Graph:
    """Tensors two objects deep in a cycle, behind attributes."""

    def __init__(self, **tensors: Tensor) -> None:
        self.__dict__["store"] = Store(self, tensors)

    def __getattr__(self, name: str) -> Tensor:
        if name.startswith("__") or name == "store":
            raise AttributeError(name)
        return self.store.mapping[name]

    def to(self, device: Any) -> Graph:
        mapping = self.store.mapping
        mapping.update({name: tensor.to(device) for name, tensor in mapping.items()})
        return self


class Slotted:
    """Moves itself, and has no dictionary of attributes."""

    __slots__ = ("x", "y")

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y

    def to(self, device: Any) -> Slotted:
        self.x, self.y = self.x.to(device), self.y.to(device)
        return self


class Bare:
    """Holds tensors, and does not move itself: the step does."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.parts = x, (y, "text")


KINDS: dict[str, tuple[Callable[[Tensor, Tensor], Any], Callable[[Any], Any]]] = {
    "graph in a cycle": (lambda x, y: Graph(x=x, y=y), lambda b: (b.x, b.y)),
    "slots": (Slotted, lambda b: (b.x, b.y)),
    "object that does not move itself": (Bare, lambda b: (b.x, b.parts[0])),
}


class Unpacks(Classifier):
    """Gets a batch of some kind and insists on its own precision."""

    def __init__(self, unpack: Callable[[Any], Any]) -> None:
        super().__init__(hard.seeded(hard.mlp).network)
        self.unpack = unpack

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = self.unpack(batch)
        assert x.dtype == self.network[0].weight.dtype
        return F.cross_entropy(self.network(x), y)


def as_kind(make: Callable[[Tensor, Tensor], Any]) -> Callable[[Any], Any]:
    return lambda samples: make(*(torch.stack(parts) for parts in zip(*samples, strict=True)))


def dense(module: Classifier, collate: Any, data: Any = None, **options: Any) -> hard.DenseHessian:
    probe = hard.DenseHessian(**options)
    trainer(probe, max_steps=1).fit(module, loader(data, batch_size=13, collate_fn=collate))
    return probe


@pytest.mark.parametrize("name", KINDS)
def test_tensors_of_any_object_reach_the_step_in_the_precision_of_the_measurement(
    name: str,
) -> None:
    make, unpack = KINDS[name]
    measured = dense(Unpacks(unpack), as_kind(make), precision=64)
    assert hard.off_by(measured.matrix, hard.hessian_by_differences(hard.seeded(hard.mlp))) < 1e-8
    # what holds itself cannot be cut, which is said
    told = ["batches-not-cut"] if name == "graph in a cycle" else []
    assert [note.code for note in measured.notes] == told


class PackedClassifier(Classifier):
    """Reads packed sequences of unequal lengths by a recurrent network."""

    def __init__(self) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(3)
            super().__init__(hard.Recurrent(torch.nn.GRU))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        sequences, targets = batch
        assert isinstance(sequences, PackedSequence)
        last = self.network.rnn(sequences)[1][0]
        return F.cross_entropy(self.network.out(last), targets)


class Padded(PackedClassifier):
    """The same without packing: each sequence by itself."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        inputs, targets = batch
        last = [self.network.rnn(x[: 2 + i % 3, None])[1][0] for i, x in enumerate(inputs)]
        return F.cross_entropy(self.network.out(torch.stack(last)), targets)


def pack(samples: list[Any]) -> Any:
    sequences = [x[: 2 + i % 3, None] for i, (x, _) in enumerate(samples)]
    return pack_sequence(sequences, enforce_sorted=False), torch.stack([y for _, y in samples])


def test_packed_sequences_are_measured_in_float64() -> None:
    measured = dense(PackedClassifier(), pack, precision=64, num_samples=5)
    sequences, targets = measured.batches[0].data
    inputs = pad_packed_sequence(sequences, batch_first=True)[0].squeeze(-1)
    wanted = hard.hessian_by_differences(Padded(), [(inputs, targets)])
    assert hard.off_by(measured.matrix, wanted) < 1e-8
    # a mean over steps of sequences that are not equally long
    assert [note.code for note in measured.notes] == ["depends-on-batches"]


@dataclass
class ModelOutput(OrderedDict[str, Any]):
    """Answers by attribute, key and position, as the outputs of model libraries do."""

    loss: Any = None
    logits: Any = None

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) is not None:
                self[field.name] = getattr(self, field.name)


class ReturnsModelOutput(Classifier):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        logits = self.network(batch[0])
        return ModelOutput(loss=F.cross_entropy(logits, batch[1]), logits=logits)


class ReturnsUserDict(Classifier):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return UserDict(loss=F.cross_entropy(self.network(batch[0]), batch[1]))


@pytest.mark.parametrize("kind", [ReturnsModelOutput, ReturnsUserDict])
def test_the_loss_is_found_in_any_mapping(kind: type[Classifier]) -> None:
    measured = hard.measure(kind(hard.seeded(hard.mlp).network))
    assert measured.matrix.equal(hard.measure(hard.seeded(hard.mlp)).matrix)


class MadeInInferenceMode(Dataset[Any]):
    """One batch, made as inside a validation that went before."""

    def __init__(self) -> None:
        with torch.inference_mode():
            self.batch = [tensor.clone() for tensor in classification_data().tensors]

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Any:
        return self.batch


def test_inference_tensors_in_a_batch_can_be_differentiated_through() -> None:
    probe = hard.DenseHessian()
    data = loader(MadeInInferenceMode(), batch_size=1, collate_fn=lambda samples: samples[0])
    with pytest.raises(RuntimeError, match="Inference tensors cannot be saved"):  # of training
        trainer(probe, max_steps=1).fit(hard.seeded(hard.mlp), data)
    assert hard.off_by(probe.matrix, hard.hessian_by_differences(hard.seeded(hard.mlp))) < 3e-5


def test_casting_keeps_what_is_shared_and_what_is_a_whole_number() -> None:
    shared, whole, complex_ = torch.ones(2), torch.ones(2, dtype=torch.long), torch.ones(1) * 1j
    batch = {"a": [shared, (shared, whole)], "b": complex_, "texts": ["a"], "none": None}
    cast = cast_floats(batch, torch.float64)
    assert cast is batch
    assert cast["a"][0] is cast["a"][1][0]
    assert cast["a"][0].dtype == torch.float64
    assert cast["a"][1][1] is whole
    assert cast["b"].equal(complex_.to(torch.complex128))
    assert cast["texts"] == ["a"]
    assert shared.dtype == torch.float32
    assert cast_floats(shared, torch.float64).dtype == torch.float64
    assert cast_floats(shared, torch.float32) is shared
