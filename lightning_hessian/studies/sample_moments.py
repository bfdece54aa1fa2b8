"""How much gradients and Hessians differ from sample to sample, without computing any alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lightning_hessian.hvp import per_batch_around
from lightning_hessian.linalg import rademacher
from lightning_hessian.loss import Conductor, TrainingLoss
from lightning_hessian.records import Estimate, Note
from lightning_hessian.statistics import widening
from lightning_hessian.studies.batch_moments import MOMENTS, BatchMoments, MomentCovariance
from lightning_hessian.studies.directions import check_orthonormal

_LINEAR = torch.tensor([1.0, 0.0, 1.0, 0.0], dtype=torch.float64)
_QUADRATIC = torch.tensor([0.0, 0.5, 0.0, 0.25], dtype=torch.float64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SampleMoments:
    """Second moments over ``N`` samples of their losses, gradients and Hessians.

    Attributes:
        dimensions: Of the subspace that gradients and Hessians are projected onto; None for all
            parameters.
        gradient_variance: ``S_g^2 = sum_i |g_i - g|^2 / (N - 1)``.
        hessian_variance: ``S_H^2 = sum_i ||H_i - H||_F^2 / (N - 1)``.
        loss_trace_covariance: ``Cov_i(l_i, tr H_i)``, divisor ``N - 1``.
        trace_variance: ``Var_i tr H_i``, divisor ``N - 1``.
        linear: ``S_g^2 + Cov_i(l_i, tr H_i)``, the coefficient of ``sigma^2`` in ``V(sigma)``.
        quadratic: ``(Var_i tr H_i + 2 S_H^2) / 4``, that of ``sigma^4``.
        covariance: Of the estimates of the first four.
        gradient_norm_squared: ``|g|^2`` of the mean gradient.
        hessian_norm_squared: ``||H||_F^2`` of the mean Hessian.
        num_batches: Disjoint batches that the estimates are from.
        num_hvps: Products spent, over all samples each.
        notes: What is missing, and why.
        subspace: The same within a subspace, or None.
    """

    dimensions: int | None
    gradient_variance: Estimate
    hessian_variance: Estimate
    loss_trace_covariance: Estimate
    trace_variance: Estimate
    linear: Estimate
    quadratic: Estimate
    covariance: MomentCovariance
    gradient_norm_squared: float
    hessian_norm_squared: Estimate
    num_batches: int
    num_hvps: int
    notes: tuple[Note, ...] = ()
    subspace: SampleMoments | None = None

    def prediction_error(self, sigma: float) -> float:
        """Standard error of ``sigma^2 linear + sigma^4 quadratic``.

        Args:
            sigma: Of the perturbation.

        Returns:
            It, the covariance of the two included.
        """
        return self.covariance.standard_error(sigma**2 * _LINEAR + sigma**4 * _QUADRATIC)


def sample_moments(
    loss: TrainingLoss | Conductor,
    *,
    basis: Tensor | None = None,
    dimensions: int | None = None,
    num_probes: int = 4,
    generator: torch.Generator,
) -> SampleMoments:
    """Estimate how gradients and Hessians vary over samples, from the frozen batches' scatter.

    See :class:`BatchMoments` for the estimates over batches. Hessians are seen through
    Rademacher probes, ``E |A v|^2 = ||A||_F^2`` and ``E v.A v = tr A``. With a basis, the probes
    only estimate what lies outside its span, within which everything is computed exactly: where a
    few eigenvalues stand far out, their eigenvectors as the basis take most of the probes' noise
    away (of a trained classifier with 8 outliers, 24 % of ``S_H^2`` from 4 probes without a basis,
    3 % with one). All is unbiased with any basis and any number of probes.

    Two batches give estimates, three give errors; 30 or more give useful ones. The relative error
    is about ``sqrt(2 / (B r))`` for ``B`` batches, ``r >= 1`` being the number of directions that
    the samples differ in; the error is itself uncertain by some ``1 / sqrt(B)``. The probes' part
    of it is widened to what Student's t would make of it for so few; it is too small for Hessians
    with outliers without a basis, whose probes are skewed.

    Costs one gradient and, for ``p`` probes and ``d`` basis vectors, ``p + d`` HVPs for the mean
    and as many again for the batches.

    Args:
        loss: Over at least two frozen batches.
        basis: ``(n, d)`` orthonormal columns.
        dimensions: Leading columns of the basis that span the subspace; all when None.
        num_probes: ``p``, at least 3.
        generator: Source of the probes, on the CPU.

    Returns:
        The moments, and those within the subspace; with fewer than two batches they are
        ``nan`` and ``notes`` says so.

    Raises:
        ValueError: If there are fewer than 3 probes, or the basis is not orthonormal.

    Example:
        >>> from lightning_hessian.hvp import open_loss
        >>> generator = torch.Generator().manual_seed(0)
        >>> samples = list(torch.randn(60, 1, 2, generator=generator) * torch.tensor([3.0, 1.0]))
        >>> network = torch.nn.Linear(2, 1, bias=False)
        >>> with open_loss(network, lambda x, _: network(x).square().mean(), samples) as loss:
        ...     moments = sample_moments(loss, basis=torch.eye(2), generator=generator)
        >>> moments.hessian_variance.value > moments.hessian_variance.standard_error > 0
        True
        >>> moments.num_batches, moments.num_hvps  # both for two vectors and four probes
        (60, 12)

    References:
        M. F. Hutchinson (1989), Commun. Stat. Simul. Comput. 18, 1059-1076 (the probes); B. Efron,
        C. Stein (1981), Ann. Statist. 9, 586-596 (the jackknife).
    """
    if num_probes < 3:
        raise ValueError(
            f"`num_probes` must be at least 3, got {num_probes}: the variance of a trace takes two "
            "independent probes, and its error one more."
        )
    known = torch.empty(loss.size, 0) if basis is None else basis
    if basis is not None:
        check_orthonormal(basis, loss.size, "`basis`")
    known = known.to(loss.device, loss.dtype)
    probes = rademacher(
        loss.size, num_probes, generator=generator, device=loss.device, dtype=loss.dtype
    )
    vectors = torch.cat([known, probes - known @ (known.T @ probes)], dim=1)
    gradient = loss.gradient().vector
    products = loss.products.matmat(vectors)
    table = per_batch_around(loss, gradient, vectors, products)
    count = known.shape[1]
    squares = products.double().square().sum(dim=0).cpu()
    moments = _moments(
        BatchMoments.of(table, count),
        dimensions=None,
        gradient_norm_squared=float(gradient.double().square().sum()),
        hessian_norm_squared=_norm_squared(squares[:count], squares[count:]),
        num_hvps=2 * vectors.shape[1],
    )
    if basis is None:
        return moments
    inside = known.double().T[:dimensions]
    within = len(inside)
    return replace(
        moments,
        subspace=_moments(
            BatchMoments.within(table, within),
            dimensions=within,
            gradient_norm_squared=float((inside @ gradient.double()).square().sum()),
            hessian_norm_squared=Estimate(
                value=float((inside @ products[:, :within].double()).square().sum()),
                standard_error=0.0,
            ),
            num_hvps=moments.num_hvps,
        ),
    )


def gradient_moment(loss: TrainingLoss | Conductor) -> tuple[Estimate, float]:
    """Estimate ``S_g^2`` alone, where there are no exact products.

    Costs two gradients.

    Returns:
        The moment, and the norm of the mean gradient.
    """
    gradient = loss.gradient().vector
    none = torch.empty(loss.size, 0, device=loss.device, dtype=loss.dtype)
    batches = BatchMoments.of(per_batch_around(loss, gradient, none, none), 0)
    unit = torch.eye(len(MOMENTS), dtype=torch.float64)[0]
    value = math.nan if len(batches.num_samples) < 2 else float(batches.moments()[0])
    error = batches.covariance().standard_error(unit)
    return Estimate(value=value, standard_error=error), float(gradient.norm())


def _moments(
    batches: BatchMoments,
    *,
    dimensions: int | None,
    gradient_norm_squared: float,
    hessian_norm_squared: Estimate,
    num_hvps: int,
) -> SampleMoments:
    count = len(batches.num_samples)
    values = torch.full((len(MOMENTS),), torch.nan, dtype=torch.float64)
    if count >= 2:
        values = batches.moments()
    covariance = batches.covariance()

    def combined(weights: Tensor) -> Estimate:
        return Estimate(
            value=float(weights @ values), standard_error=covariance.standard_error(weights)
        )

    units = dict(zip(MOMENTS, torch.eye(len(MOMENTS), dtype=torch.float64), strict=True))
    return SampleMoments(
        dimensions=dimensions,
        gradient_variance=combined(units["gradient_variance"]),
        hessian_variance=combined(units["hessian_variance"]),
        loss_trace_covariance=combined(units["loss_trace_covariance"]),
        trace_variance=combined(units["trace_variance"]),
        linear=combined(_LINEAR),
        quadratic=combined(_QUADRATIC),
        covariance=covariance,
        gradient_norm_squared=gradient_norm_squared,
        hessian_norm_squared=hessian_norm_squared,
        num_batches=count,
        num_hvps=num_hvps,
        notes=_notes(count),
    )


def _notes(count: int) -> tuple[Note, ...]:
    advice = "Give a smaller `batch_size`, or more samples; 30 batches or more give useful errors."
    if count < 2:
        return (
            Note(
                "derivatives-not-measured",
                "how gradients and Hessians differ between samples is read off the scatter of at "
                f"least 2 batches, but the frozen samples make {count}. {advice}",
            ),
        )
    if count < 3:
        return (
            Note(
                "derivatives-without-error",
                "how gradients and Hessians differ between samples comes without an error from 2 "
                f"batches. {advice}",
            ),
        )
    return ()


def _norm_squared(known: Tensor, probes: Tensor) -> Estimate:
    """``||H||_F^2`` from products with a basis and with probes outside of its span."""
    error = widening(len(probes)) * float(probes.std()) / math.sqrt(len(probes))
    return Estimate(value=float(known.sum() + probes.mean()), standard_error=error)
