"""One step of a block Krylov method: what products add to a basis, and the next block."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_hessian.errors import NonFiniteError
from lightning_hessian.linalg.basis import Basis, gram, inner_products
from lightning_hessian.linalg.probes import rademacher

WELL_CONDITIONED = 1e-2
"""Shortest remainder, relative to the products, that two passes leave orthogonal to rounding."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Remainder:
    """Products of a block: what is in the basis, and what leads out, ``Q components + B^T c``."""

    components: Tensor  # (k, b) float64 on the CPU
    block: Tensor  # B, (r, n) orthonormal rows, orthogonal to the basis
    coupling: Tensor  # c, (r, b) float64 on the CPU
    lost: float  # norm of what was dropped as dependent
    scale: float  # norm of the products
    drift: float  # norm of what storing the block that was multiplied moved it by


def remainder_of(
    basis: Basis, multiply: Callable[[], Tensor], *, expected_scale: float
) -> Remainder:
    """Orthogonalise products against a basis, and then among themselves."""
    # Two passes of block Gram-Schmidt, then a Cholesky factorisation of the Gram matrix, twice
    # (Stathopoulos & Wu 2002, SIAM J. Sci. Comput. 23, 2165-2182; Yamamoto et al. 2015, ETNA 44,
    # 306-326): all on the device. Host and device wait for each other once, for the small matrices
    # together. Where these show a remainder too short for that (below a hundredth of the products),
    # it is done again by a QR and a singular value decomposition, and what is rounding is dropped.
    # `expected_scale`, about the norm of the products, keeps squares in range.
    # The products are asked for here, so that none but this function holds them.
    target = multiply().T.to(basis.device)
    first = basis.components(target)
    rows = basis.without(target, first)
    del target
    second = basis.components(rows)
    basis.subtract(rows, second)
    factor = _power_of_two(expected_scale)
    if factor != 1:
        rows.mul_(factor)
    lower, block = _cholesky_rows(rows)
    correction, block = _cholesky_rows(block)
    count, width = first.shape
    parts = [first.double(), second.double(), lower, correction, basis.drift.expand(1, width)]
    # the only transfer from the device
    small = torch.cat(parts).cpu().split([count, count, width, width, 1])
    components, lower, correction = small[0] + small[1], small[2], small[3]
    drift = float(small[4][0, 0])
    rest = float(torch.linalg.matrix_norm(lower)) / factor
    # in float64: squares of large float32 products would overflow
    scale = math.hypot(float(torch.linalg.matrix_norm(components)), rest)
    coupling, lost = (lower @ correction).T / factor, 0.0
    if not _is_well_conditioned(lower / factor, correction, scale):
        del block
        rows.div_(factor)
        scale = _finite_scale(components, rows)
        block, coupling, lost = orthonormal_rows(rows, basis, scale)
    return Remainder(
        components=components,
        block=block,
        coupling=coupling,
        lost=lost,
        scale=scale,
        drift=drift,
    )


def _finite_scale(components: Tensor, rows: Tensor) -> float:
    length = float(torch.linalg.vector_norm(rows, dtype=torch.float64))
    scale = math.hypot(float(torch.linalg.matrix_norm(components)), length)
    if not scale < math.inf:
        raise NonFiniteError(
            "a Hessian-vector product holds NaN or infinity, while loss and gradient are "
            "finite. Look for a square root, a norm or a power whose curvature is infinite."
        )
    return scale


def orthonormal_rows(rows: Tensor, basis: Basis, scale: float) -> tuple[Tensor, Tensor, float]:
    """Factor ``rows^T = block^T C`` with orthonormal rows ``block``, dropping what is rounding."""
    # the rows (b, n) are orthogonal to the basis to rounding, which is relative to `scale`, or to
    # their own norm where it is 0; gives the block (r, n), C (r, b) and the norm dropped
    q, r = torch.linalg.qr(rows.T)
    u, s, vh = torch.linalg.svd(r.to("cpu", torch.float64))
    scale = scale or float(s[0])
    keep = s > 8 * torch.finfo(rows.dtype).eps * scale
    lost = float(s[~keep].max()) if bool((~keep).any()) else 0.0
    block = (q @ u[:, keep].to(q.device, q.dtype)).T.contiguous()
    is_short = bool(keep.any()) and float(s[keep].min()) < WELL_CONDITIONED * scale
    if is_short and len(basis) > 0:
        # normalising a short remainder magnifies what it still has in common with the basis
        basis.project_out(block)
        block = torch.linalg.qr(block.T)[0].T.contiguous()
    if len(block) == 0:
        return block, s[keep, None] * vh[keep], lost
    # a QR of long float32 vectors is orthonormal to the rounding of its sums only
    block = _cholesky_rows(block)[1]
    return block, inner_products(block, rows).cpu(), lost


def refill(block: Tensor, basis: Basis, width: int, generator: torch.Generator) -> Tensor:
    """Complete a block to ``width`` rows by random ones orthogonal to it and to the basis."""
    missing = width - len(block)
    if missing <= 0:
        return block
    size = block.shape[1]
    fresh = rademacher(size, missing, generator=generator, device=block.device, dtype=block.dtype)
    rows = fresh.T.clone()
    while True:
        _project_out_both(rows, basis, block)
        _project_out_both(rows, basis, block)
        q, r = torch.linalg.qr(rows.T)
        if float(r.diagonal().abs().min()) > 1e-3:
            # rows nearly parallel to each other magnify what is left of the known ones
            rows = q.T.contiguous()
            _project_out_both(rows, basis, block)
            fresh = torch.linalg.qr(rows.T)[0].T.contiguous()
            return torch.cat([block, _cholesky_rows(fresh)[1]])
        rows = torch.randn(missing, size, generator=generator).to(block.device, block.dtype)


def _project_out_both(rows: Tensor, basis: Basis, block: Tensor) -> None:
    for _ in range(2):
        if len(basis) > 0:
            basis.subtract(rows, basis.components(rows))
        rows.addmm_(rows @ block.T, block, alpha=-1)


def _cholesky_rows(rows: Tensor) -> tuple[Tensor, Tensor]:
    """``rows = lower @ block`` with nearly orthonormal ``block``; NaN where rows are dependent."""
    lower = torch.linalg.cholesky_ex(gram(rows))[0]
    eye = torch.eye(len(rows), dtype=torch.float64, device=rows.device)
    inverse = torch.linalg.solve_triangular(lower, eye, upper=False)
    return lower, inverse.to(rows.dtype) @ rows


def _is_well_conditioned(lower: Tensor, correction: Tensor, scale: float) -> bool:
    """Whether the factorisations went through, NaN and garbage apart, and no direction is short."""
    # The shortest is at least ``1 / ||lower^-1||_F``.
    eye = torch.eye(len(lower), dtype=torch.float64)
    if not float((correction - eye).abs().max()) < 0.1:
        return False
    inverse = torch.linalg.solve_triangular(lower, eye, upper=False)
    return WELL_CONDITIONED * scale * float(inverse.norm()) <= 1


def _power_of_two(scale: float) -> float:
    """What brings a scale near one without rounding; 1 where it is not far from it."""
    if scale == 0 or 1e-6 < scale < 1e6:
        return 1.0
    return 2.0 ** -round(math.log2(scale))
