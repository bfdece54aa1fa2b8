"""How many long vectors are alive at a time, and what crosses from a device to the host."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class DiagonalOperator:
    """Products with ``linspace(-1, 3) ** 3`` on the diagonal; no memory but the products'."""

    def __init__(self, size: int) -> None:
        self._diagonal = torch.linspace(-1, 3, size) ** 3

    @property
    def size(self) -> int:
        return len(self._diagonal)

    @property
    def device(self) -> torch.device:
        return self._diagonal.device

    @property
    def dtype(self) -> torch.dtype:
        return self._diagonal.dtype

    def matmat(self, vectors: Tensor) -> Tensor:
        return self._diagonal[:, None] * vectors


class HeldVectors(TorchDispatchMode):
    """Counts the vectors of length ``n`` in all memory that operations have made and not freed."""

    def __init__(self, size: int, itemsize: int) -> None:
        super().__init__()
        self._bytes = size * itemsize
        self._alive: dict[int, tuple[int, list[weakref.ref[Tensor]]]] = {}
        self.peak = 0.0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and tensor.untyped_storage().nbytes() >= self._bytes:
                storage = tensor.untyped_storage()
                _, owners = self._alive.setdefault(storage.data_ptr(), (storage.nbytes(), []))
                owners.append(weakref.ref(tensor))
        self._alive = {
            place: (count, living)
            for place, (count, owners) in self._alive.items()
            if (living := [owner for owner in owners if owner() is not None])
        }
        self.peak = max(self.peak, sum(c for c, _ in self._alive.values()) / self._bytes)
        return result


class Waits(TorchDispatchMode):
    """Counts the places where a host would wait for a device that the marked tensors live on.

    What is computed from a marked tensor is marked. A copy to the host is asked for by ``cpu``,
    which :meth:`watch_cpu` replaces, as it does nothing to a tensor that is there already.
    """

    def __init__(self) -> None:
        super().__init__()
        self._marked: list[weakref.ref[Tensor]] = []
        self.transfers = 0
        self.others: list[str] = []

    def mark(self, tensor: Tensor) -> Tensor:
        """Say that a tensor lives on the device."""
        self._marked.append(weakref.ref(tensor))
        return tensor

    def watch_cpu(self) -> Callable[[Tensor], Tensor]:
        """A replacement of ``Tensor.cpu`` whose result is on the host."""

        def cpu(tensor: Tensor) -> Tensor:
            if self._is_marked(tensor):
                self.transfers += 1
            return torch.tensor(tensor.tolist(), dtype=tensor.dtype).reshape(tensor.shape)

        return cpu

    def _is_marked(self, tensor: Tensor) -> bool:
        return any(other() is tensor for other in self._marked)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self._marked = [ref for ref in self._marked if ref() is not None]
        inputs = [a for a in tree_leaves((args, kwargs or {})) if isinstance(a, Tensor)]
        on_device = any(self._is_marked(a) for a in inputs)
        result = func(*args, **(kwargs or {}))
        if on_device:
            if func is torch.ops.aten._local_scalar_dense.default:
                self.others.append(str(func))
            for tensor in tree_leaves(result):
                if isinstance(tensor, Tensor):
                    self.mark(tensor)
        return result
