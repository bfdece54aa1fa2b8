"""Does a step compute in a lower floating-point type than it is given?"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class CastWatch(TorchDispatchMode):
    """Sees every conversion of a float64 tensor to a lower type, also inside custom functions.

    Attributes:
        has_seen: Whether there was one.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.has_seen: bool = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, and look at what went in and came out."""
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._to_copy.default and isinstance(result, Tensor):
            is_lower = result.is_floating_point() and result.dtype != torch.float64
            self.has_seen = self.has_seen or (is_lower and args[0].dtype == torch.float64)
        return result
