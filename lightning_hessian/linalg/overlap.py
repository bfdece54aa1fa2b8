"""How far the leading eigenvectors have turned since the last measurement."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Overlap:
    """Eigenvectors of now beside those of an earlier time.

    Attributes:
        vectors: ``(n, d)`` those of now, each with the sign that makes its product with its partner
            positive.
        partners: ``(d,)`` number of the earlier vector that each is matched with, -1 for none; no
            two have the same.
        cosines: ``(d,)`` float64, between each and its partner, 0 to 1; ``nan`` for none.
        subspace: ``||U^T V||_F^2 / max(d, e)`` of the two spans, of ``d`` and ``e`` dimensions: 0
            to 1, whatever order and signs their vectors are in.
    """

    vectors: Tensor
    partners: Tensor
    cosines: Tensor
    subspace: float


def align(vectors: Tensor, earlier: Tensor) -> Overlap:
    """Match eigenvectors with those of an earlier measurement, and turn them the same way.

    Partners are found pair by pair, the largest ``|u . v|`` first: where eigenvalues have crossed,
    the vectors keep their identity.

    Costs no product.

    Args:
        vectors: ``(n, d)`` orthonormal columns.
        earlier: ``(n, e)`` orthonormal columns, anywhere.

    Returns:
        The overlap.

    Example:
        >>> now, earlier = torch.eye(4)[:, [1, 0]], -torch.eye(4)[:, :3]
        >>> found = align(now, earlier)
        >>> found.partners.tolist(), found.cosines.tolist(), round(found.subspace, 3)
        ([1, 0], [1.0, 1.0], 0.667)
    """
    products = (earlier.to(vectors).T @ vectors).to("cpu", torch.float64)
    left = products.abs().clone()
    count = vectors.shape[1]
    partners = torch.full((count,), -1)
    cosines = torch.full((count,), torch.nan, dtype=torch.float64)
    signs = torch.ones(count, dtype=torch.float64)
    for _ in range(min(products.shape)):
        old, new = divmod(int(left.argmax()), count)
        partners[new], cosines[new] = old, left[old, new].clamp_max(1.0)
        signs[new] = -1.0 if products[old, new] < 0 else 1.0
        left[old], left[:, new] = -1.0, -1.0
    subspace = float(products.square().sum()) / max(*products.shape, 1)
    return Overlap(
        vectors=vectors * signs.to(vectors),
        partners=partners,
        cosines=cosines,
        subspace=min(subspace, 1.0),
    )
