"""The largest eigenvalue over many samples from eigenvectors over few, by one block product."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_hessian.hvp import per_batch_products
from lightning_hessian.loss import Conductor, TrainingLoss
from lightning_hessian.studies.batch_statistics import quantile, sampling_share, variance
from lightning_hessian.studies.directions import check_orthonormal

ROUNDINGS = 64
"""Machine epsilons of the eigenvalue on top of both ends, as in a sweep's bounds."""


def refined_interval(
    loss: TrainingLoss | Conductor,
    vectors: Tensor,
    *,
    above: float,
    population: int | None = None,
) -> tuple[float, float]:
    r"""Bracket the largest eigenvalue of ``H_M`` by products with ``H`` of other samples.

    Two levels: a whole sweep over few samples finds directions ``U``, one block product over many
    more, or over all ``M``, finds how good they are there. Seen from ``U``, with
    ``A = U^T H U`` and the residual ``R = H U - U A``,

        ``lambda_1(A) <= lambda_1(H) <= lambda_1([[A, G], [G, a]])``,  ``G = (R^T R)^(1/2)``,

    for any ``a`` that no eigenvalue of ``H`` on the complement of ``U`` exceeds (the block matrix
    with ``a`` in place of that complement; of a single vector ``(theta + a)/2 + sqrt((theta -
    a)^2/4 + r^2)``). The interval is short where ``U`` holds the outliers: in second order
    ``r^2 / (theta - a)``.

    Over a sample the upper end is a convex function of ``H``, so too large on average, like
    ``lambda_1`` itself but by the bias of many samples. The lower end leaves out batch by batch:
    the Ritz vector of the others, within ``U``, on the batch left out, which is unbiased for a
    number that ``lambda_1(H_M)`` is not below. Each gets ``t`` standard errors on top.

    Costs ``d`` HVPs over these samples.

    Args:
        loss: Over samples drawn at random, independently of those that the vectors are of; with all
            ``M`` nothing is left to chance.
        vectors: ``(n, d)`` orthonormal.
        above: ``a``; for example the next eigenvalue over the few samples with its residual bound,
            which is biased upwards.
        population: ``M``; None where it is unknown.

    Returns:
        95 % confidence interval; infinite with fewer than three batches of a part of the samples.

    Raises:
        ValueError: If the vectors are not orthonormal, or there are more samples than the
            population has.
        RefusedError: If products are differences of gradients.

    Example:
        >>> from lightning_hessian.hvp import open_loss
        >>> generator = torch.Generator().manual_seed(0)
        >>> samples = list(torch.randn(60, 1, 2, generator=generator) * torch.tensor([3.0, 1.0]))
        >>> network = torch.nn.Linear(2, 1, bias=False)
        >>> with open_loss(network, lambda x, _: network(x).square().mean(), samples) as loss:
        ...     low, high = refined_interval(loss, torch.eye(2)[:, :1], above=3.0)
        >>> low < 2 * 3.0**2 < high  # of infinitely many samples
        True

    References:
        B. N. Parlett (1998), "The symmetric eigenvalue problem", sections 10.1 and 10.5; C. Davis,
        W. M. Kahan, H. F. Weinberger (1982), SIAM J. Numer. Anal. 19, 445-469.
    """
    check_orthonormal(vectors, loss.size, "`vectors`")
    products, table = per_batch_products(loss, vectors.to(loss.device, loss.dtype))
    sizes = table.along.sizes
    share = sampling_share(round(float(sizes.sum())), population)
    basis, images = vectors.double().to(loss.device), products.double()
    inside = _symmetric(basis.T @ images)
    residual = images - basis @ inside
    inside, gram = inside.cpu(), _symmetric(residual.T @ residual).cpu()
    high = _upper_bound(inside, gram, above)
    low, margin = float(torch.linalg.eigvalsh(inside)[-1]), 0.0
    if share > 0 and len(sizes) < 3:
        return -math.inf, math.inf
    if share > 0:
        quotients = _held_out_quotients(sizes, _symmetric(table.forms))
        low = float(sizes @ quotients / sizes.sum())
        margin = quantile(len(sizes)) * math.sqrt(share * float(variance(sizes, quotients)))
    margin += ROUNDINGS * torch.finfo(loss.dtype).eps * abs(high)
    return low - margin, high + margin


def _upper_bound(inside: Tensor, gram: Tensor, above: float) -> float:
    """Largest eigenvalue of ``[[A, G], [G, a]]``."""
    squares, axes = torch.linalg.eigh(gram)
    root = axes * squares.clamp_min(0).sqrt() @ axes.T
    rest = above * torch.eye(len(inside), dtype=torch.float64)
    whole = torch.cat([torch.cat([inside, root], dim=1), torch.cat([root, rest], dim=1)])
    return float(torch.linalg.eigvalsh(whole)[-1])


def _held_out_quotients(sizes: Tensor, forms: Tensor) -> Tensor:
    """``(B,)`` each batch's Rayleigh quotient of the Ritz vector of all other batches."""
    shares = sizes[:, None, None]
    total = (shares * forms).sum(dim=0)
    others = (total - shares * forms) / (sizes.sum() - shares)
    leading = torch.linalg.eigh(others)[1][:, :, -1]
    return torch.einsum("bi,bij,bj->b", leading, forms, leading)


def _symmetric(matrix: Tensor) -> Tensor:
    return 0.5 * (matrix + matrix.mT)
