"""How far the losses of single samples lie apart at parameters around the present ones."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_hessian.errors import NonFiniteError
from lightning_hessian.loss import Conductor, TrainingLoss
from lightning_hessian.records import NeighbourhoodVariance, SampleMethod
from lightning_hessian.sample_losses import AS_IT_IS, Filling, sample_losses_at
from lightning_hessian.statistics import widening
from lightning_hessian.studies.directions import check_orthonormal
from lightning_hessian.studies.sample_moments import SampleMoments


def neighbourhood_variance(
    loss: TrainingLoss | Conductor,
    losses: Tensor,
    *,
    sigma: float,
    num_perturbations: int = 32,
    method: SampleMethod,
    generator: torch.Generator,
    filling: Filling = AS_IT_IS,
    basis: Tensor | None = None,
    moments: SampleMoments | None = None,
) -> NeighbourhoodVariance:
    """Measure ``V(sigma) = E_delta Var_i l_i(w + delta)`` beside its second-order prediction.

    ``delta`` is Gaussian, of standard deviation ``sigma`` in each coordinate of all parameters or
    of the basis. Perturbations come in pairs ``+-delta``: the variance's part that is odd in
    ``delta``, above all ``2 delta . Cov_i(l_i, g_i)``, cancels. It is the largest noise at small
    ``sigma`` and none of the mean; the standard error then falls with ``sigma^2`` and not with
    ``sigma``, so that a small excess over ``S^2`` can be told. Where little is odd, pairs cost a
    factor of at most ``sqrt(2)`` in the error. That is taken from the scatter of the pairs, widened
    to what Student's t would make of it for so few; the values are skewed, so that 1.96 of it from
    16 pairs cover some 90 %.

    From ``l_i(w + delta) = l_i + g_i.delta + delta.H_i delta / 2`` and the moments of a Gaussian,

        ``V(sigma) = S^2 + sigma^2 (S_g^2 + Cov_i(l_i, tr H_i))
        + (sigma^4 / 4) (Var_i tr H_i + 2 S_H^2) + ...``

    The dots are of order ``sigma^4`` where third and fourth derivatives are not zero, and so are
    as large as the last part. While ``S^2`` is all of it, as at small ``sigma``, nothing is learnt
    of the neighbourhood; the parts apart show that.

    Costs one pass over the samples for each perturbation, without derivatives.

    Args:
        loss: At the present parameters ``w``.
        losses: ``(N,)`` of the samples at ``w``.
        sigma: Standard deviation of each coordinate.
        num_perturbations: An even number, at least 4.
        method: How the losses of single samples are computed.
        generator: Source of the perturbations, on the CPU.
        filling: How one sample becomes a batch of a size that the step takes.
        basis: ``(n, d)`` orthonormal columns to perturb along; None for all parameters.
        moments: For the prediction: within the span of ``basis`` if there is one.

    Returns:
        ``V(sigma)`` with its error and its parts.

    Raises:
        ValueError: If an argument is out of its range, or the moments are not those of the basis.
        NonFiniteError: If a loss is NaN or infinite at perturbed parameters.

    Example:
        >>> from lightning_hessian.hvp import open_loss
        >>> from lightning_hessian.sample_losses import sample_losses
        >>> generator = torch.Generator().manual_seed(0)
        >>> samples = list(torch.randn(60, 1, 2, generator=generator) * torch.tensor([3.0, 1.0]))
        >>> network = torch.nn.Linear(2, 1, bias=False)
        >>> with open_loss(network, lambda x, _: network(x).square().mean(), samples) as loss:
        ...     losses = sample_losses(loss)
        ...     found = neighbourhood_variance(
        ...         loss, losses.values, sigma=0.1, method=losses.method, generator=generator
        ...     )
        >>> found.variance > 3 * found.standard_error
        True
    """
    _check_arguments(sigma, num_perturbations)
    check_losses(losses)
    if basis is not None:
        check_orthonormal(basis, loss.size, "`basis`")
        basis = basis.to(loss.device, loss.dtype)
    dimensions = None if basis is None else basis.shape[1]
    if moments is not None and moments.dimensions != dimensions:
        raise ValueError(
            f"`moments` must be those of the space perturbed in, {_space(dimensions)}, got those "
            f"of {_space(moments.dimensions)}."
        )

    def variance_at(displacement: Tensor) -> float:
        try:
            perturbed = sample_losses_at(loss, displacement, method=method, filling=filling)
        except NonFiniteError as error:
            raise NonFiniteError(
                f"losses are not finite at parameters perturbed by sigma={sigma:g}, so there is no "
                "variance. Give a smaller `sigma`."
            ) from error
        return float(perturbed.double().var())

    pairs = []
    for _ in range(num_perturbations // 2):
        size = loss.size if dimensions is None else dimensions
        normal = torch.randn(size, generator=generator, dtype=loss.dtype).to(loss.device)
        delta = sigma * (normal if basis is None else basis @ normal)
        pairs.append(0.5 * (variance_at(delta) + variance_at(-delta)))
    measured = torch.tensor(pairs, dtype=torch.float64)
    return NeighbourhoodVariance(
        sigma=sigma,
        dimensions=dimensions,
        variance=float(measured.mean()),
        standard_error=widening(len(pairs)) * float(measured.std()) / math.sqrt(len(pairs)),
        num_perturbations=num_perturbations,
        value_part=float(losses.double().var()),
        linear_part=sigma**2 * moments.linear.value if moments else math.nan,
        quadratic_part=sigma**4 * moments.quadratic.value if moments else math.nan,
        prediction_standard_error=moments.prediction_error(sigma) if moments else math.nan,
    )


def check_losses(losses: Tensor) -> None:
    """Refuse what has no variance over samples: fewer than two, or not finite."""
    if losses.dim() != 1 or len(losses) < 2:
        raise ValueError(
            "`losses` must hold the loss of each of at least 2 samples, shape (N,), got "
            f"{tuple(losses.shape)}."
        )
    if not bool(losses.isfinite().all()):
        raise NonFiniteError(
            f"{int((~losses.isfinite()).sum())} of {len(losses)} `losses` are not finite at the "
            "present parameters. Look for the samples that they belong to."
        )


def _check_arguments(sigma: float, num_perturbations: int) -> None:
    if not 0 < sigma < math.inf:
        raise ValueError(
            f"`sigma` must be positive and finite, got {sigma:g}. Some thousandth of a typical "
            "weight is a start."
        )
    if num_perturbations < 4 or num_perturbations % 2:
        raise ValueError(
            f"`num_perturbations` must be even and at least 4, got {num_perturbations}: they come "
            "in pairs, whose scatter is the error."
        )


def _space(dimensions: int | None) -> str:
    return "all parameters" if dimensions is None else f"{dimensions} basis vectors"
