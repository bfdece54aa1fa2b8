"""Does a step compute in a lower floating-point type than it is given?"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_DOUBLE = (torch.float64, torch.complex128)


def _digits(tensor: Tensor) -> float:
    """Of a tensor's numbers, in binary; whole numbers have all."""
    has_rounding = tensor.is_floating_point() or tensor.is_complex()
    return -math.log2(torch.finfo(tensor.dtype).eps) if has_rounding else math.inf


class CastWatch(TorchDispatchMode):
    """Sees every conversion of a tensor in double precision to a lower type, in functions too.

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
            is_lower = _digits(result) < _digits(args[0])
            self.has_seen = self.has_seen or (is_lower and args[0].dtype in _DOUBLE)
        return result
