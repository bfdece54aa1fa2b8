"""Floating-point tensors of a batch in another precision, wherever the batch keeps them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lightning_hessian.sandbox import StateSnapshot, in_precision, replaced


def cast_floats(batch: Any, dtype: torch.dtype) -> Any:
    """Convert the floating-point tensors, complex ones too, that can be reached from a batch.

    Not only those in dictionaries, lists and (named) tuples: also those in attributes and slots of
    any object, such as a graph, a data class or a tokeniser's output. The batch's containers and
    objects are changed in place; a tensor or a tuple itself is made anew.
    """
    held = StateSnapshot([batch])
    casts: dict[int, object] = {
        id(thing): thing.to(in_precision(thing.dtype, dtype))
        for thing in held.owned
        if isinstance(thing, Tensor) and thing.dtype != in_precision(thing.dtype, dtype)
    }
    held.replace(casts)
    return replaced(batch, casts)
