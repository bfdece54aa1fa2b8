"""Random probe vectors, always from an explicit generator."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_hessian.linalg.operator import SymmetricOperator


def rademacher(
    size: int,
    count: int,
    *,
    generator: torch.Generator,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Draw independent signs, +1 or -1 with probability one half each.

    Signs have the smallest variance for a trace among probes with independent entries, and
    ``||v||^2 = size`` exactly. They are drawn on the CPU, so that a seed gives the same probes on
    every device.

    Args:
        size: Length ``n`` of a probe.
        count: Number ``b`` of probes.
        generator: Source of the signs, on the CPU; its state advances by ``count * size`` draws.
        device: Where the result lives; the CPU by default.
        dtype: Floating-point type of the result.

    Returns:
        ``(size, count)``; each column is contiguous in memory.

    References:
        M. F. Hutchinson (1989), Commun. Stat. Simul. Comput. 18, 1059-1076.

    Example:
        >>> probes = rademacher(1000, 4, generator=torch.Generator().manual_seed(0))
        >>> probes.square().sum(dim=0).tolist()
        [1000.0, 1000.0, 1000.0, 1000.0]
    """
    bits = torch.randint(0, 2, (count, size), generator=generator, dtype=torch.int8)
    return bits.to(device=device, dtype=dtype).mul_(2).sub_(1).T


def signs_for(operator: SymmetricOperator, count: int, generator: torch.Generator) -> Tensor:
    """Probes that the operator can multiply: of its size, on its device, in its type."""
    return rademacher(
        operator.size, count, generator=generator, device=operator.device, dtype=operator.dtype
    )
