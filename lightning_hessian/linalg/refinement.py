"""Eigenvalues from approximate eigenvectors, by one block of exact products."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_hessian.linalg.basis import FullBasis
from lightning_hessian.linalg.eigenvalues import (
    end_order,
    largest_eigenvalues,
    smallest_eigenvalues,
)
from lightning_hessian.linalg.krylov import ROUNDINGS, KrylovSpace, RitzPairs
from lightning_hessian.linalg.operator import SymmetricOperator
from lightning_hessian.records import Eigenvalues


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RefinedPairs:
    """Ritz pairs on the span of given vectors."""

    largest: Eigenvalues
    smallest: Eigenvalues
    vectors: Tensor  # (n, d) orthonormal: the largest, descending, the smallest, ascending
    space: KrylovSpace  # their span, on whose complement the trace can be estimated


def refine(
    operator: SymmetricOperator,
    vectors: Tensor,
    *,
    num_largest: int,
    num_smallest: int,
    rtol: float,
    product_error: float = 0.0,
) -> RefinedPairs:
    """Rayleigh-Ritz on the span of approximate eigenvectors (of a sweep with fewer digits)."""
    # With orthonormal Y spanning the (n, d) linearly independent vectors, and G = Y^T A Y =
    # S Theta S^T, the pairs are (Theta, Y S), each with the bound ||A y - theta y|| and the
    # roundings of the norm: one product for each vector. Errors of the vectors of size e enter the
    # values as e^2 (Parlett 1998, "The symmetric eigenvalue problem", sections 11.3 and 11.5).
    basis = torch.linalg.qr(vectors)[0].T.contiguous().T
    images = operator.matmat(basis) if basis.shape[1] else basis
    small = (basis.T @ images).to("cpu", torch.float64)
    projection = 0.5 * (small + small.T)
    values, coordinates = torch.linalg.eigh(projection)
    rotation = coordinates.to(basis)
    ritz_vectors = (rotation.T @ basis.T).T
    residuals = (rotation.T @ images.T).T - ritz_vectors * values.to(basis)
    scale = float(values.abs().max()) if len(values) else 0.0
    noise = ROUNDINGS * torch.finfo(basis.dtype).eps * scale + product_error
    bounds = residuals.norm(dim=0).to("cpu", torch.float64) + noise
    pairs = RitzPairs(values=values, vectors=coordinates, bounds=bounds)
    order = end_order(len(values), num_largest=num_largest, num_smallest=num_smallest)
    return RefinedPairs(
        largest=largest_eigenvalues(pairs, num_largest, rtol=rtol),
        smallest=smallest_eigenvalues(pairs, num_smallest, rtol=rtol),
        vectors=ritz_vectors[:, order],
        space=_span(basis, projection, images, noise),
    )


def _span(basis: Tensor, projection: Tensor, images: Tensor, noise: float) -> KrylovSpace:
    """The span of the basis; what leads out of it has the coordinates of its own QR."""
    size, count = basis.shape
    vectors = FullBasis(size, capacity=count, dtype=basis.dtype, device=basis.device)
    vectors.append(basis.T.contiguous())
    leading_out = images - basis @ projection.to(basis)
    return KrylovSpace(
        vectors=vectors,
        projection=projection,
        outflow=torch.linalg.qr(leading_out, mode="r").R.to("cpu", torch.float64),
        start=torch.empty(count, 0, dtype=torch.float64),
        num_blocks=1,
        product_noise=noise,
    )
