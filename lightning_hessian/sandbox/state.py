"""Snapshot of everything a training step may change, and its exact restoration in place.

A training step is user code: besides computing a loss it may move buffers, append to lists, count,
draw from generators of its own or swap a teacher's weights through ``.data``. The snapshot walks
the Python objects reachable from the module (and from the data set) and can put each back.

It does not see globals, class attributes, files, and what lives inside compiled code.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from enum import Enum
from functools import partial
from types import BuiltinFunctionType, CellType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils.data import DataLoader, Dataset

from lightning_hessian.sandbox.generators import generator_state, seed_generator
from lightning_hessian.sandbox.saved_objects import (
    SavedCell,
    SavedContainer,
    SavedHolder,
    SavedSlots,
    SavedTensor,
    is_assigned,
)
from lightning_hessian.sandbox.shards import is_sharded, local_part

MAX_ELEMENTS = 10_000
MAX_FOREIGN_BYTES = 1 << 20

_OPAQUE_PACKAGES = ("builtins", "numpy", "torch", "lightning", "pytorch_lightning",
                    "lightning_fabric", "logging", "threading", "multiprocessing", "concurrent",
                    "asyncio", "tensorboard", "tqdm", "rich", "wandb", "mlflow")  # fmt: skip
_TRANSPARENT = (nn.Module, Dataset, torch.quasirandom.SobolEngine, torch.distributions.Distribution)
_CONTAINERS = (dict, list, set, deque)
_STATELESS = (str, bytes, int, float, complex, type(None), Enum, type, ModuleType,
              BuiltinFunctionType, torch.dtype, torch.device)  # fmt: skip


class StateSnapshot:
    """The state reachable from some root objects, at the time of construction.

    Containers are held by identity of their elements, tensors and arrays by their bits, generators
    by their state. Tensors and arrays reachable only through a data set or from ``foreign`` roots
    are held when they take at most 1 MiB each: a data set's own data is not copied.

    Args:
        roots: Modules and what else a step may change.
        foreign: Data sets, data modules, optimiser settings.
        shallow: Dictionaries of which only the entries count, not what these hold.
        base: An earlier snapshot, whose copies of tensors and arrays are shared.
    """

    def __init__(
        self,
        roots: Iterable[object],
        foreign: Iterable[object] = (),
        shallow: Iterable[dict[str, Any]] = (),
        base: StateSnapshot | None = None,
    ) -> None:
        self._base = base
        self.tensors: dict[int, SavedTensor] = {}
        self.holders: dict[int, SavedHolder] = {
            id(entries): SavedContainer(entries) for entries in shallow
        }
        self.generators: dict[int, tuple[Any, Callable[[], object]]] = {}
        self._arrays: dict[int, tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]] = {}
        self._seen: dict[int, object] = {}
        self._data: list[object] = list(foreign)
        self._byte_limit: float = float("inf")
        for root in roots:
            self._walk(root)
        self.owned = tuple(self._seen.values())
        self._byte_limit = MAX_FOREIGN_BYTES
        for root in self._data:
            self._walk(root)

    def restore(self) -> None:
        """Put everything back, bit by bit, without touching what did not change hands.

        Copies go through ``.data``, so that autograd's version counters do not move.
        """
        for holder in self.holders.values():
            holder.put_back()
        self.restore_tensors()
        for array, saved in self._arrays.values():
            array[...] = saved
        for _, put_back in self.generators.values():
            put_back()

    def is_unchanged(self) -> bool:
        """Whether tensors, containers, attributes, variables and arrays are what they were."""
        return (
            all(holder.is_unchanged() for holder in self.holders.values())
            and all(saved.is_unchanged() for saved in self.tensors.values())
            and all(np.array_equal(array, saved) for array, saved in self._arrays.values())
        )

    def restore_tensors(self) -> None:
        """Put back the tensors only."""
        ordinary, copies = [], []
        for saved in self.tensors.values():
            saved.put_back_handles()
            if saved.storage.is_inference():
                with torch.inference_mode():
                    saved.storage.copy_(saved.copy)
            else:
                ordinary.append(saved.storage)
                copies.append(saved.copy)
        if ordinary:
            with torch.no_grad():
                torch._foreach_copy_(ordinary, copies)

    def replace(self, replacements: Mapping[int, object]) -> None:
        """Put other objects wherever these are held; :meth:`restore` puts the old ones back."""
        for holder in self.holders.values() if replacements else ():
            if len(holder.values) <= MAX_ELEMENTS:
                holder.replace(replacements)

    def modules(self) -> Iterator[nn.Module]:
        """The modules met on the walk."""
        return (thing for thing in self._seen.values() if isinstance(thing, nn.Module))

    def reseed(self, seed: int) -> None:
        """Set every generator that the module or the data own to one seed."""
        for generator, _ in self.generators.values():
            seed_generator(generator, seed)

    def _walk(self, root: object) -> None:
        pending = [root]
        while pending:
            thing = pending.pop()
            if isinstance(thing, _STATELESS) or id(thing) in self._seen:
                continue
            if isinstance(thing, Dataset | DataLoader) and self._byte_limit > MAX_FOREIGN_BYTES:
                self._data.append(thing)
                continue
            self._seen[id(thing)] = thing
            inner = self._save(thing)
            if len(inner) <= MAX_ELEMENTS:
                pending.extend(inner)

    def _save(self, thing: Any) -> Collection[Any]:
        """Record one object if it can change, and say what it leads to."""
        # first, as most of what a module holds are dictionaries
        if isinstance(thing, _CONTAINERS):
            return self._hold(thing, SavedContainer(thing))
        if isinstance(thing, Tensor):
            return self._save_tensor(thing)
        if isinstance(thing, np.ndarray):
            return self._save_array(thing)
        if (put_back := generator_state(thing)) is not None:
            self.generators[id(thing)] = (thing, put_back)
            return ()
        if isinstance(thing, CellType):
            # a variable of a closure has no content before its first assignment
            return self._hold(thing, SavedCell(thing)) if is_assigned(thing) else ()
        if (parts := _parts(thing)) is not None:
            return parts
        if not has_visible_attributes(thing):
            return ()
        attributes = getattr(thing, "__dict__", None)
        slots = SavedSlots(thing)
        if slots.values:
            self._hold(thing, slots)
        return [*slots.values, attributes] if isinstance(attributes, dict) else slots.values

    def _hold(self, thing: object, saved: SavedHolder) -> Collection[Any]:
        self.holders[id(thing)] = saved
        return saved.values

    def _save_tensor(self, tensor: Tensor) -> Collection[Any]:
        if is_sharded(tensor):
            # whole copies take its place; of itself, the bits are kept
            return self._save_tensor(local_part(tensor))
        if not _owns_its_elements(tensor) or tensor.nbytes > self._byte_limit:
            return ()
        known = self._base.tensors.get(id(tensor)) if self._base else None
        saved = self.tensors[id(tensor)] = known or SavedTensor(tensor)
        return (saved.grad,)

    def _save_array(self, array: np.ndarray[Any, Any]) -> Collection[Any]:
        if array.nbytes <= self._byte_limit and array.flags.writeable and array.dtype != object:
            known = self._base._arrays.get(id(array)) if self._base else None
            self._arrays[id(array)] = known or (array, array.copy())
        return ()


def _owns_its_elements(tensor: Tensor) -> bool:
    """Whether a tensor is dense, in memory, and no two of its elements are the same place."""
    if is_lazy(tensor) or tensor.layout != torch.strided or tensor.is_meta:
        return False
    strides = zip(tensor.stride(), tensor.shape, strict=True)
    return not any(stride == 0 and length > 1 for stride, length in strides)


def _parts(thing: Any) -> Collection[Any] | None:
    """What an object that is itself unchangeable leads to, or None for other objects."""
    if isinstance(thing, tuple | frozenset):
        return thing
    if isinstance(thing, MethodType):
        return (thing.__self__,)
    if isinstance(thing, partial):
        return (thing.func, thing.args, thing.keywords)
    if isinstance(thing, FunctionType):
        if _is_of_opaque_package(thing.__module__):
            return ()
        defaults = (*(thing.__defaults__ or ()), thing.__kwdefaults__)
        return (*(thing.__closure__ or ()), *defaults, vars(thing))
    if isinstance(thing, DataLoader):
        return (thing.dataset, thing.generator, thing.sampler, thing.collate_fn)
    return None


def has_visible_attributes(thing: object) -> bool:
    """Whether an object's attributes are the user's state, not those of a library's own house."""
    if isinstance(thing, _TRANSPARENT):
        return True
    return not _is_of_opaque_package(type(thing).__module__) and not _is_of_the_host(thing)


def _is_of_opaque_package(module_name: str | None) -> bool:
    return (module_name or "").partition(".")[0] in _OPAQUE_PACKAGES


def _is_of_the_host(thing: object) -> bool:
    """Whether a user's class extends one of Lightning's conductors, which are not the step's."""
    conductors = ("Trainer", "Strategy", "Logger", "Callback", "Optimizer")
    return any(base.__name__ in conductors for base in type(thing).__mro__)
