"""Lanczos from one vector, in plain torch: for the truth, and to find settings with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Product = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Tridiagonal:
    """``H Q = Q T + beta q e^T``.

    Attributes:
        diagonal: ``(m,)`` float64.
        beside: ``(m,)`` float64; the last one belongs to the residual.
        basis: ``(m, n)`` orthonormal rows.
    """

    diagonal: Tensor
    beside: Tensor
    basis: Tensor

    def ritz(self, steps: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Ritz values ascending, eigenvectors of ``T``, residual norms, after the first steps."""
        steps = steps or len(self.diagonal)
        beside = self.beside[: steps - 1]
        matrix = torch.diag(self.diagonal[:steps]) + beside.diag(1) + beside.diag(-1)
        values, vectors = torch.linalg.eigh(matrix)
        return values, vectors, self.beside[steps - 1] * vectors[-1].abs()


def lanczos(
    product: Product,
    start: Tensor,
    steps: int,
    *,
    against: Tensor | None = None,
    is_enough: Callable[[Tridiagonal], bool] = lambda _: False,
) -> Tridiagonal:
    """Run Lanczos with two passes of full reorthogonalisation.

    Args:
        product: By the symmetric operator.
        start: ``(n,)``, in the complement of ``against``.
        steps: Bound on the products.
        against: ``(q, n)`` orthonormal eigenvectors, kept out of the basis.
        is_enough: Asked every ten steps.
    """
    basis = torch.empty(steps, len(start), dtype=start.dtype)
    diagonal = torch.zeros(steps, dtype=torch.float64)
    beside = torch.zeros(steps, dtype=torch.float64)
    basis[0] = start / start.norm()
    for step in range(steps):
        image = product(basis[step])
        diagonal[step] = basis[step].double() @ image.double()
        for _ in range(2):
            for rows in (basis[: step + 1],) if against is None else (basis[: step + 1], against):
                image = image - (rows @ image) @ rows
        beside[step] = image.double().norm()
        made = Tridiagonal(diagonal[: step + 1], beside[: step + 1], basis[: step + 1])
        if step + 1 < steps:
            if step % 10 == 9 and is_enough(made):
                return made
            basis[step + 1] = image / beside[step]
    return made


def rademacher(size: int, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    """``(n,)`` of signs."""
    return torch.randint(2, (size,), generator=generator).to(dtype) * 2 - 1
