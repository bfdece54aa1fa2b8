"""Two states of a tensor told apart by a sum of their bits."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_hessian.sandbox.shards import local_part


def sum_of_bits(tensor: Tensor) -> int:
    """A sum of the bits, read as whole numbers, of a dense tensor or this process's part of one."""
    integers = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    held = local_part(tensor.detach()).resolve_conj().resolve_neg()
    real = torch.view_as_real(held) if held.is_complex() else held
    return int(real.view(integers[real.element_size()]).sum())
