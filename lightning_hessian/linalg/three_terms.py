"""The vectors and coefficients of Lanczos' three-term recurrence."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_hessian.linalg.basis import Basis, inner_products
from lightning_hessian.linalg.operator import SymmetricOperator
from lightning_hessian.linalg.probes import rademacher


class ThreeTerms:
    """Two blocks of vectors, and the coefficients so far, of some recurrences side by side.

    Args:
        operator: Symmetric.
        count: Probes ``b``, each with a recurrence of its own.
        generator: Source of the probes, on the CPU.
        deflated: Orthonormal vectors to stay orthogonal to.

    Attributes:
        masses: ``(b,)`` float64 on the CPU, squared norms of the probes' part in the complement.
    """

    def __init__(
        self,
        operator: SymmetricOperator,
        count: int,
        generator: torch.Generator,
        deflated: Basis | None,
    ) -> None:
        self._operator, self._deflated = operator, deflated
        probes = rademacher(
            operator.size, count, generator=generator, device=operator.device, dtype=operator.dtype
        )
        self._now = probes.T
        self._project(self._now)
        norms = _norms(self._now)
        self.masses = norms.square().cpu()
        self._now.div_(norms[:, None])
        self._before: Tensor | None = None
        self._diagonal: list[Tensor] = []
        self._off_diagonal: list[Tensor] = []

    @property
    def num_steps(self) -> int:
        """Steps done."""
        return len(self._diagonal)

    def step(self) -> None:
        """One step of every recurrence, in the order of Paige; waits for nothing on the device."""
        images = self._operator.matmat(self._now.T).T
        if self._before is None:
            rows = images.clone(memory_format=torch.contiguous_format)
        else:
            rows = self._before.mul_(-self._off_diagonal[-1][:, None]).add_(images)
        del images
        pairs = zip(rows.split(1), self._now.split(1), strict=True)
        shared = torch.cat([inner_products(*pair)[0] for pair in pairs])
        rows.addcmul_(self._now, shared[:, None].to(rows.dtype), value=-1)
        self._project(rows)
        norms = _norms(rows)
        self._before, self._now = self._now, rows
        # an invariant space ends there: what follows is zero and has no weight
        rows.div_(norms.clamp_min(torch.finfo(rows.dtype).tiny)[:, None])
        self._diagonal.append(shared)
        self._off_diagonal.append(norms)

    def coefficients(self) -> tuple[Tensor, Tensor]:
        """Bring the coefficients to the CPU: the one transfer from the device.

        Returns:
            Diagonals and off-diagonals, ``(b, m)`` float64; the last couples to the next vector.
        """
        both = torch.stack([torch.stack(self._diagonal), torch.stack(self._off_diagonal)]).cpu()
        return both[0].T, both[1].T

    def _project(self, rows: Tensor) -> None:
        if self._deflated is None:
            return
        moved = rows.to(self._deflated.device)
        self._deflated.project_out(moved)
        if moved is not rows:
            rows.copy_(moved)


def _norms(rows: Tensor) -> Tensor:
    """``(b,)`` in float64: squares of large float32 products would overflow."""
    return torch.stack([torch.linalg.vector_norm(row, dtype=torch.float64) for row in rows])
