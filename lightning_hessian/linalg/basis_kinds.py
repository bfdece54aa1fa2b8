"""The ways to keep a Krylov basis: in full, in half the bytes, or off the device."""

from __future__ import annotations

from typing import Literal

import torch

from lightning_hessian.linalg.basis import Basis, FullBasis
from lightning_hessian.linalg.operator import Shaped
from lightning_hessian.linalg.rounded_basis import RoundedBasis

BasisKind = Literal["full", "bfloat16", "cpu"]
BASIS_KINDS: tuple[BasisKind, ...] = ("full", "bfloat16", "cpu")


def make_basis(kind: BasisKind, operator: Shaped, *, capacity: int) -> Basis:
    """Choose the storage of a basis for an operator's vectors.

    Args:
        kind: "full" keeps the operator's type on its device; "bfloat16" keeps 16 bits of each
            entry; "cpu" keeps the operator's type in the host's memory, where the orthogonalisation
            is then done too: a block goes there and back for each block of products.
        operator: Tells size, type and device.
        capacity: Most rows that will be appended.

    Returns:
        An empty basis.

    Raises:
        ValueError: If the kind is unknown.
    """
    if kind not in BASIS_KINDS:
        raise ValueError(
            f"`basis` must be one of {', '.join(map(repr, BASIS_KINDS))}, got {kind!r}."
        )
    device = torch.device("cpu") if kind == "cpu" else operator.device
    storage = RoundedBasis if kind == "bfloat16" else FullBasis
    return storage(operator.size, capacity=capacity, dtype=operator.dtype, device=device)


def vector_bytes(kind: BasisKind, operator: Shaped) -> int:
    """Bytes of one vector of a basis.

    Args:
        kind: As for :func:`make_basis`.
        operator: Tells size and type.

    Returns:
        The number.
    """
    return operator.size * (2 if kind == "bfloat16" else operator.dtype.itemsize)
