"""How much memory there is for what may be kept, and what a graph takes of it."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from lightning_hessian.loss.graph import nodes_behind

SHARE = 0.25
UNKNOWN = 2**30
"""Taken as free where the system does not say."""

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


def free_memory(device: torch.device) -> int:
    """Memory that can still be allocated, in bytes.

    Of an accelerator what its driver and torch's cache have left; of the CPU what the system or the
    container (cgroup 2) has left, whichever is less; 1 GiB where that is not known.
    """
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + cached
    if device.type != "cpu":
        return UNKNOWN
    left = [x for x in (_left_in_system(), _left_in_container()) if x is not None]
    return min(left, default=UNKNOWN)


def host_memory() -> int | None:
    """Memory that can be had at most, in bytes: what the system has left, or all of a container's.

    What only caches files counts as left; None where neither says.
    """
    container = (_text(_CGROUP / "memory.max") or "").strip()
    known = [_left_in_system(), int(container) if container.isdecimal() else None]
    return min((each for each in known if each is not None), default=None)


def _text(path: Path) -> str | None:
    """None where there is no such file, or a process must not read it."""
    try:
        return path.read_text()
    except OSError:
        return None


def _left_in_system() -> int | None:
    for line in (_text(_MEMINFO) or "").splitlines():
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            return 1024 * int(rest.split()[0])
    return None


def _left_in_container() -> int | None:
    limit, used = (_text(_CGROUP / name) for name in ("memory.max", "memory.current"))
    if limit is None or used is None or limit.strip() == "max":
        return None
    return max(int(limit) - int(used), 0)


def tensors_in(data: object) -> list[Tensor]:
    """The tensors of a batch in lists, tuples and dictionaries; others are not looked into."""
    return [leaf for leaf in tree_leaves(data) if isinstance(leaf, Tensor)]


@cache
def _saved_names(kind: Hashable) -> tuple[str, ...]:
    """By which a node of a kind shows what it has saved."""
    return tuple(name for name in dir(kind) if name.startswith("_saved_"))


def graph_bytes(outputs: Iterable[Tensor], others: Collection[Tensor]) -> int:
    """Memory that a graph holds on to: the tensors saved for its derivatives, each storage once.

    Those of ``others`` are there anyway. What a custom function keeps in attributes of its own is
    not seen.
    """
    known = {tensor.untyped_storage().data_ptr() for tensor in others}
    total = 0
    for node in nodes_behind(outputs):
        saved = [getattr(node, name) for name in _saved_names(type(node))]  # type: ignore[arg-type]
        saved += getattr(node, "saved_tensors", ())
        for item in saved:
            for tensor in item if isinstance(item, list | tuple) else (item,):
                if isinstance(tensor, Tensor) and tensor.layout == torch.strided:
                    storage = tensor.untyped_storage()
                    if storage.data_ptr() not in known:
                        known.add(storage.data_ptr())
                        total += storage.nbytes()
    return total
