"""Parameters that training keeps in shards (FSDP2), made whole for a measurement."""

from __future__ import annotations

import sys
from typing import Any

from torch import Tensor, nn

_FSDP = "torch.distributed.fsdp."


def is_sharded(thing: object) -> bool:
    """Whether something is a distributed tensor, of which this process holds a part.

    Not so where distributed tensors were never imported; importing them takes its time.
    """
    module: Any = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(thing, module.DTensor)


def local_part(tensor: Tensor) -> Tensor:
    """The part of a tensor that this process holds, its storage shared."""
    if not is_sharded(tensor):
        return tensor
    part: Tensor = tensor._local_tensor  # type: ignore[attr-defined]
    return part


def whole(tensor: Tensor) -> Tensor:
    """Gather a tensor, without its graph, from the processes that hold its parts: all call this."""
    detached = tensor.detach()
    return detached.full_tensor() if is_sharded(detached) else detached  # type: ignore[attr-defined]


def set_sharding_aside(module: nn.Module) -> None:
    """Take off the forward hooks by which FSDP2 gathers parameters, before and after each module.

    With whole parameters they have nothing to do; the caller puts them back.
    """
    for part in module.modules():
        for hooks in (part._forward_pre_hooks, part._forward_hooks):
            for key, hook in list(hooks.items()):
                owner = getattr(hook, "__self__", None)
                home = (hook if owner is None else type(owner)).__module__ or ""
                if home.startswith(_FSDP):
                    del hooks[key]
