"""The parts of a batch, and a copy of it that nothing can change any more."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor

from lightning_hessian.errors import RefusedError


def leaves_of(batch: Any) -> Iterator[Any]:
    """Whatever a batch's collections hold: tensors, numbers, texts, objects."""
    if isinstance(batch, Mapping):
        children = list(batch.values())
    elif isinstance(batch, list | tuple):
        children = list(batch)
    elif is_dataclass(batch) and not isinstance(batch, type):
        children = [getattr(batch, field.name) for field in fields(batch)]
    else:
        yield batch
        return
    for child in children:
        yield from leaves_of(child)


def detached_copy(batch: Any) -> Any:
    """Copy a batch to the CPU, whatever it consists of."""
    # copies under the memo of `deepcopy`, which puts them wherever the batch holds the original
    memo: dict[int, Any] = {}
    for leaf in leaves_of(batch):
        if isinstance(leaf, Tensor):
            if not leaf.is_leaf:
                raise RefusedError(
                    "a batch depends on parameters through its graph, perhaps by a transfer hook: "
                    "a copy of it would lose a part of the loss's curvature. Give `dataloader=`, "
                    "whose batches go through the hooks in every evaluation."
                )
            own = leaf.detach().to("cpu", copy=True)
            memo[id(leaf)] = own.requires_grad_(leaf.requires_grad)
        elif hasattr(leaf, "to"):
            own = copy.deepcopy(leaf)
            moved = own.to("cpu")
            memo[id(leaf)] = own if moved is None else moved
    return copy.deepcopy(batch, memo)
