"""The difference of mean losses along given and random orders of the samples."""

from __future__ import annotations

import torch
from torch import Tensor


def difference_along(losses: Tensor, order: Tensor | None = None) -> Tensor:
    """Compute ``d_k = L_{k+1} - L_k`` for every ``k`` along one order of the samples.

    ``L_k`` is the mean of the first ``k`` losses, so that ``d_k = (l_{k+1} - L_k) / (k + 1)``: the
    form used here, which does not subtract two nearly equal means. ``(..., N)`` losses give
    ``(..., N - 1)`` in float64, signed; entry ``k - 1`` is ``d_k``.
    """
    values = losses.detach().double()
    if order is not None:
        values = values[..., order]
    # a shift of all losses changes no difference, and keeps the digits of a narrow distribution
    values = values - values.mean(dim=-1, keepdim=True)
    counts = torch.arange(1, values.shape[-1], dtype=torch.float64, device=values.device)
    means = values[..., :-1].cumsum(dim=-1) / counts
    return (values[..., 1:] - means) / (counts + 1)


def simulate_orders(
    losses: Tensor,
    *,
    num_orders: int,
    generator: torch.Generator,
    sample_sizes: Tensor | None = None,
) -> Tensor:
    """Draw random orders of the samples and give ``|d_k|`` along each.

    What one sees by shuffling; the laws that :func:`order_statistics` evaluates need no shuffling.
    Costs ``O(num_orders N)``; memory for a single order beside the result, which is
    ``(num_orders, g)`` float64 on the CPU for ``(g,)`` sizes ``k``, from 1 to ``N - 1``; by default
    all.
    """
    if num_orders < 1:
        raise ValueError(f"`num_orders` must be at least 1, got {num_orders}.")
    values = losses.detach().cpu().double()
    count = len(values)
    columns = slice(None) if sample_sizes is None else sample_sizes.long() - 1
    rows = []
    for _ in range(num_orders):
        order = torch.randperm(count, generator=generator)
        rows.append(difference_along(values, order).abs()[columns])
    return torch.stack(rows)
