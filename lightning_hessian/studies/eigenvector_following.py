"""Up along some eigenvectors, down along all others: to a saddle of a wanted index."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_hessian.studies.search_method import SearchMethod, by_signs, judge_by_model

FARTHEST = 0.3


def eigenvector_following(index: int, size: int) -> SearchMethod:
    """Newton steps by the whole Hessian, up along as many of its lowest eigenvectors.

    It looks for a critical point of that index, from wherever it starts; where the lowest curvature
    is positive it climbs along it all the same.

    Args:
        index: Number of negative eigenvalues that are wanted.
        size: Number of parameters.

    Returns:
        The method.

    References:
        C. J. Cerjan, W. H. Miller (1981), "On finding transition states", J. Chem. Phys. 75, 2800.
    """

    def signs(values: Tensor) -> Tensor:
        found = torch.ones_like(values)
        found[:index] = -1
        return found

    return SearchMethod(
        name="eigenvector following",
        price=size,
        look=lambda loss, slope: loss.in_full(slope),
        step=by_signs(signs),
        judge=judge_by_model,
        farthest=FARTHEST,
    )
