"""How far the shares below any place of two distributions of eigenvalues are from each other."""

from __future__ import annotations

import torch
from torch import Tensor


def kolmogorov_distance(
    nodes: Tensor, weights: Tensor, other_nodes: Tensor, other_weights: Tensor
) -> float:
    """Kolmogorov distance ``max |F(x) - G(x)|`` of two discrete distributions.

    Of a law with a density and a quadrature of it this is half of the largest weight at the least.

    Args:
        nodes: ``(k,)`` places of the one.
        weights: ``(k,)``, summing to 1.
        other_nodes: ``(m,)`` places of the other.
        other_weights: ``(m,)``, summing to 1.

    Returns:
        From 0 to 1.

    Example:
        >>> kolmogorov_distance(*torch.tensor([[0.0, 1.0], [0.5, 0.5], [0.0, 3.0], [0.25, 0.75]]))
        0.75
    """
    places, order = torch.cat([nodes, other_nodes]).sort()
    rises = torch.cat([weights, -other_weights])[order].cumsum(0)
    # at a place that both have all of its rises count at once
    is_last = torch.cat([places.diff() > 0, torch.ones(1, dtype=torch.bool)])
    return float(rises[is_last].abs().max())
