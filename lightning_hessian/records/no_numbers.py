"""What stands for numbers that were not measured."""

from __future__ import annotations

import torch
from torch import Tensor


def no_numbers() -> Tensor:
    """None, of float64."""
    return torch.empty(0, dtype=torch.float64)


def no_flags() -> Tensor:
    """None, of bool."""
    return torch.empty(0, dtype=torch.bool)
