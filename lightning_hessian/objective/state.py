"""Snapshot of everything a training step may change, and its exact restoration in place.

A training step is user code: besides computing a loss it may move buffers, append to lists, count,
draw from generators of its own or swap a teacher's weights through ``.data``. The snapshot walks
the Python objects reachable from the module (and from the data set) and can put each back.
"""

from __future__ import annotations

import copy
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

MAX_DEPTH = 6
MAX_ELEMENTS = 10_000
MAX_FOREIGN_BYTES = 1 << 20

_OPAQUE_PACKAGES = ("torch", "lightning", "pytorch_lightning", "lightning_fabric", "logging",
                    "threading", "multiprocessing", "concurrent", "asyncio", "tensorboard",
                    "tqdm", "rich", "wandb", "mlflow")  # fmt: skip
_TRANSPARENT = (nn.Module, torch.utils.data.Dataset)
_STATELESS = (Enum, type, type(lambda: 0), type(len), type(torch))


class _TensorRecord:
    """One tensor: its storage, a copy of its bits, its flags and its gradient."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self.storage = tensor.data
        self.copy = self.storage.clone()
        self.requires_grad = tensor.requires_grad
        self.grad = tensor.grad if tensor.is_leaf else None

    def moved(self, delta: Tensor) -> _TensorRecord:
        """The same record with ``delta`` added to the bits that it puts back."""
        record = copy.copy(self)
        record.copy = self.copy + delta
        return record

    def put_back_handles(self) -> None:
        """Undo ``t.data = other``, ``t.grad = other`` and ``t.requires_grad_()``."""
        tensor, storage = self.tensor, self.storage
        if tensor.data_ptr() != storage.data_ptr() or tensor.shape != storage.shape:
            tensor.data = storage
        if tensor.is_leaf:
            if tensor.requires_grad != self.requires_grad:
                tensor.requires_grad_(self.requires_grad)
            if tensor.grad is not self.grad:
                tensor.grad = self.grad


class _ContainerRecord:
    """One dict, list, set or deque: its elements by identity."""

    def __init__(self, container: Any) -> None:
        self.container = container
        self.is_mapping = isinstance(container, dict)
        self.keys = list(container) if self.is_mapping else None
        self.values = list(container.values()) if self.is_mapping else list(container)

    def put_back(self) -> None:
        container = self.container
        if not container and not self.values:
            return
        now = list(container.values()) if self.is_mapping else list(container)
        same = len(now) == len(self.values) and all(map(_is, now, self.values))
        if same and (self.keys is None or list(container) == self.keys):
            return
        if isinstance(container, list):
            container[:] = self.values
            return
        container.clear()
        if self.keys is not None:
            container.update(zip(self.keys, self.values, strict=True))
        elif isinstance(container, set):
            container.update(self.values)
        else:
            container.extend(self.values)

    def replace(self, replacements: Mapping[int, object]) -> None:
        """Put other objects in the place of elements, by identity; sets and deques stay."""
        if isinstance(self.container, dict | list):
            for key, value in zip(self.keys or range(len(self.values)), self.values, strict=True):
                if id(value) in replacements:
                    self.container[key] = replacements[id(value)]


def _is(a: object, b: object) -> bool:
    return a is b


class StateSnapshot:
    """The state reachable from some root objects, at the time of construction.

    Containers are held by identity of their elements, tensors and arrays by their bits, generators
    by their state. Tensors and arrays reachable only from ``foreign`` roots (a data set) are held
    when they take at most 1 MiB: a data set's own data is not copied.

    Args:
        roots: Modules and what else a step may change.
        foreign: Data sets, data modules, optimiser settings.
        base: An earlier snapshot, whose copies of tensors and arrays are shared.
    """

    def __init__(
        self,
        roots: Iterable[object],
        foreign: Iterable[object] = (),
        base: StateSnapshot | None = None,
    ) -> None:
        self._base = base
        self.tensors: dict[int, _TensorRecord] = {}
        self.containers: dict[int, _ContainerRecord] = {}
        self.generators: dict[int, tuple[Any, Callable[[], object]]] = {}
        self._arrays: dict[int, tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]] = {}
        self._seen: dict[int, object] = {}
        self._byte_limit: float = float("inf")
        for root in roots:
            self._walk(root, 0)
        self._byte_limit = MAX_FOREIGN_BYTES
        for root in foreign:
            self._walk(root, 0)

    def restore(self) -> None:
        """Put everything back, bit by bit, without touching what did not change hands.

        Copies go through ``.data``, so autograd's version counters do not move and a graph that the
        user keeps across steps stays valid.
        """
        for container in self.containers.values():
            container.put_back()
        self.restore_tensors()
        for array, saved in self._arrays.values():
            array[...] = saved
        for _, put_back in self.generators.values():
            put_back()

    def restore_tensors(self) -> None:
        """Put back the tensors only."""
        ordinary, copies = [], []
        for record in self.tensors.values():
            record.put_back_handles()
            if record.storage.is_inference():
                with torch.inference_mode():
                    record.storage.copy_(record.copy)
            else:
                ordinary.append(record.storage)
                copies.append(record.copy)
        if ordinary:
            with torch.no_grad():
                torch._foreach_copy_(ordinary, copies)

    def modules(self) -> Iterator[nn.Module]:
        """The modules met on the walk."""
        return (thing for thing in self._seen.values() if isinstance(thing, nn.Module))

    def reseed(self, seed: int) -> None:
        """Set every generator that the module or the data own to one seed."""
        for generator, _ in self.generators.values():
            seed_generator(generator, seed)

    def _walk(self, thing: Any, depth: int) -> None:
        if depth > MAX_DEPTH or isinstance(thing, str | bytes | int | float | complex | None):
            return
        if isinstance(thing, _STATELESS) or id(thing) in self._seen:
            return
        self._seen[id(thing)] = thing
        if isinstance(thing, Tensor):
            self._add_tensor(thing)
        elif isinstance(thing, np.ndarray):
            self._add_array(thing)
        elif (put_back := _generator_state(thing)) is not None:
            self.generators[id(thing)] = (thing, put_back)
        elif isinstance(thing, dict | list | set | deque):
            self.containers[id(thing)] = _ContainerRecord(thing)
            self._walk_all(thing.values() if isinstance(thing, dict) else thing, depth)
        elif isinstance(thing, tuple | frozenset):
            self._walk_all(thing, depth)
        elif _has_visible_attributes(thing):
            attributes = vars(thing)
            self._seen[id(attributes)] = attributes
            self.containers[id(attributes)] = _ContainerRecord(attributes)
            # a module nested however deep is as much part of the state as the outermost
            self._walk_all(attributes.values(), 0 if isinstance(thing, nn.Module) else depth)

    def _walk_all(self, things: Iterable[Any], depth: int) -> None:
        items = list(things)
        if len(items) <= MAX_ELEMENTS:
            for item in items:
                self._walk(item, depth + 1)

    def _add_tensor(self, tensor: Tensor) -> None:
        if _owns_its_elements(tensor) and tensor.nbytes <= self._byte_limit:
            known = self._base.tensors.get(id(tensor)) if self._base else None
            self.tensors[id(tensor)] = known or _TensorRecord(tensor)
            if tensor.is_leaf and tensor.grad is not None:
                self._walk(tensor.grad, 0)

    def _add_array(self, array: np.ndarray[Any, Any]) -> None:
        if array.nbytes <= self._byte_limit and array.flags.writeable and array.dtype != object:
            known = self._base._arrays.get(id(array)) if self._base else None
            self._arrays[id(array)] = known or (array, array.copy())


def _owns_its_elements(tensor: Tensor) -> bool:
    """Whether a tensor is dense, in memory, and no two of its elements are the same place."""
    lazy = isinstance(tensor, nn.UninitializedParameter | nn.UninitializedBuffer)
    if lazy or tensor.layout != torch.strided or tensor.is_meta:
        return False
    strides = zip(tensor.stride(), tensor.shape, strict=True)
    return not any(stride == 0 and length > 1 for stride, length in strides)


def _has_visible_attributes(thing: object) -> bool:
    if isinstance(thing, _TRANSPARENT):
        return True
    package = type(thing).__module__.partition(".")[0]
    if package in _OPAQUE_PACKAGES or package in ("builtins", "numpy"):
        return False
    return hasattr(thing, "__dict__") and not _is_of_the_host(thing)


def _is_of_the_host(thing: object) -> bool:
    """Whether a user's class extends one of Lightning's conductors, which are not the step's."""
    conductors = ("Trainer", "Strategy", "Logger", "Callback", "Optimizer", "DataLoader")
    return any(base.__name__ in conductors for base in type(thing).__mro__)


def _generator_state(thing: object) -> Callable[[], object] | None:
    """A function that puts a generator back into its present state, or None for other things."""
    if isinstance(thing, torch.Generator):
        return partial(thing.set_state, thing.get_state())
    if isinstance(thing, np.random.Generator):
        return partial(setattr, thing.bit_generator, "state", thing.bit_generator.state)
    if isinstance(thing, np.random.RandomState):
        return partial(thing.set_state, thing.get_state())
    if isinstance(thing, random.Random):
        return partial(thing.setstate, thing.getstate())
    return None


def seed_generator(generator: Any, seed: int) -> None:
    """Seed a torch, numpy or Python generator in place."""
    if isinstance(generator, torch.Generator):
        generator.manual_seed(seed)
    elif isinstance(generator, np.random.Generator):
        bits: Any = generator.bit_generator
        bits.state = type(bits)(seed).state
    else:
        generator.seed(seed)
