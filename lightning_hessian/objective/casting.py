"""A batch's floating-point tensors in the type that the loss is computed in."""

from __future__ import annotations

from typing import Any

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor

from lightning_hessian.objective.detached import leaves_of
from lightning_hessian.objective.state import StateSnapshot


def cast_floats(batch: Any, dtype: torch.dtype) -> Any:
    """Convert all floating-point tensors of a batch, also those inside objects such as graphs.

    Args:
        batch: Its objects are changed in place.
        dtype: Floating-point.

    Returns:
        The same structure.
    """
    for leaf in leaves_of(batch):
        if hasattr(leaf, "to") and not isinstance(leaf, Tensor):
            inside = StateSnapshot([leaf])
            inside.replace(
                {
                    id(thing): thing.to(dtype)
                    for thing in inside.owned
                    if isinstance(thing, Tensor) and thing.is_floating_point()
                }
            )
    return apply_to_collection(
        batch, Tensor, lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor
    )
