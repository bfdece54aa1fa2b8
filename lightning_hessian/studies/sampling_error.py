"""How far the spectrum of all training samples may be from that of the samples measured."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from lightning_hessian.hvp import AlongVectors, PerBatch, per_batch_products
from lightning_hessian.linalg import rademacher
from lightning_hessian.loss import Conductor, TrainingLoss
from lightning_hessian.records import Note, SamplingError
from lightning_hessian.studies.batch_statistics import (
    density_distance,
    quantile,
    sampling_share,
    trace_variance,
    variance,
)
from lightning_hessian.studies.directions import check_orthonormal

USEFUL_BATCHES = 10


def sampling_error(
    loss: TrainingLoss | Conductor,
    vectors: Tensor,
    *,
    num_largest: int,
    rest: tuple[float, float] | None = None,
    known: AlongVectors | None = None,
    probes: AlongVectors | None = None,
    population: int | None = None,
    generator: torch.Generator | None = None,
) -> SamplingError:
    r"""Read the sampling error of a spectrum off the scatter of the disjoint frozen batches.

    ``H_N`` is the mean Hessian of the ``N`` frozen samples, ``H_M`` that of the ``M`` that they
    were drawn from, ``f = 1/N - 1/M``, and ``S^2`` of a quantity its variance over samples, for
    which the batches give an unbiased estimate (:func:`variance`).

    - Eigenvalue ``k``: its standard error is ``sqrt(f S^2(v_k . H_i v_k))`` in first order. In
      second order it is pushed away from the others by ``sum_j f S^2(v_j . H_i v_k) / (lambda_k -
      lambda_j)``, the rest of the spectrum, of which only the range is known, counting as if it lay
      at its nearer end. Where a gap is small the shift of two levels that repel each other is used
      instead, ``(sqrt(gap^2 + 4 x^2) - gap) / 2``, which is finite.
    - The largest is a convex function of the Hessian, ``E lambda_1(H_N) >= lambda_1(H_M)``: its
      bias ``b`` is upwards. Its vector on samples left out gives ``v . H_M v <= lambda_1(H_M)``,
      which is on average ``2 b`` lower than ``lambda_1(H_N)``: leaving out batch by batch moves
      ``v`` by ``(lambda_1 - H)^+ (H_b - H) v n_b / (N - n_b)``. The interval reaches from this
      held-out quotient less ``t`` standard errors to ``lambda_1(H_N)`` with its residual bound and
      as much on top; its centre is free of the bias, and it is wider than 95 % would need by ``b``
      on each side. Where ``b`` is not small against the eigenvalue the expansion is not good:
      then take more samples, or :func:`refined_interval`.
    - The trace is unbiased, with ``sqrt(f S^2(tr H_i))``, from above (:func:`trace_variance`); the
      density as in
      :func:`density_distance`.

    Three batches give errors, 30 or more give useful ones. Costs ``d`` HVPs, with a generator one
    more.

    Args:
        loss: Over the frozen batches.
        vectors: ``(n, d)`` orthonormal, (approximate) eigenvectors: first those of the largest
            eigenvalues, descending, then those of the smallest, ascending.
        num_largest: How many belong to the largest.
        rest: Within which all other eigenvalues lie. When None, up to the last of the largest and
            down to the last of the smallest.
        known: From a sweep, along an orthonormal basis. When None, the ``vectors``.
        probes: Along Rademacher probes less their part in the span of ``known``, as
            :func:`estimate_trace` draws them. When None, trace and density have no error, unless
            ``known`` is everything.
        population: ``M``; None where it is unknown.
        generator: Source of a probe on the complement of the vectors, in place of ``probes``.

    Returns:
        The errors.

    Raises:
        ValueError: If the vectors are not orthonormal, ``num_largest`` does not fit, or the
            population is smaller than the sample.
        RefusedError: If products are differences of gradients.

    Example:
        >>> from lightning_hessian.hvp import open_loss
        >>> generator = torch.Generator().manual_seed(0)
        >>> samples = list(torch.randn(60, 1, 2, generator=generator) * torch.tensor([3.0, 1.0]))
        >>> network = torch.nn.Linear(2, 1, bias=False)
        >>> with open_loss(network, lambda x, _: network(x).square().mean(), samples) as loss:
        ...     error = sampling_error(loss, torch.eye(2), num_largest=1)
        >>> low, high = error.largest_interval
        >>> low < 2 * 3.0**2 < high  # of infinitely many samples
        True

    References:
        B. Efron, C. Stein (1981), Ann. Statist. 9, 586-596 (batches left out); G. W. Stewart, J.-G.
        Sun (1990), "Matrix perturbation theory", theorem V.2.3 (the expansion).
    """
    check_orthonormal(vectors, loss.size, "`vectors`")
    if not 1 <= num_largest <= vectors.shape[1]:
        raise ValueError(
            f"`num_largest` must be between 1 and the {vectors.shape[1]} vectors, got "
            f"{num_largest}: the first ones are of the largest eigenvalues."
        )
    vectors = vectors.to(loss.device, loss.dtype)
    if generator is not None and vectors.shape[1] < loss.size:
        products, table, probes = _with_probe(loss, vectors, generator)
    else:
        products, table = per_batch_products(loss, vectors)
    spent = vectors.shape[1] + (generator is not None and probes is not None)
    sizes = table.along.sizes
    count, num_samples = len(sizes), round(float(sizes.sum()))
    share = sampling_share(num_samples, population)
    values = (vectors.double() * products.double()).sum(dim=0).cpu()
    residual = float((products[:, 0].double() - values[0] * vectors[:, 0].double()).norm())
    errors = biases = torch.zeros_like(values)
    margin = trace = distance = 0.0
    if share > 0 and count < 3:
        errors = biases = torch.full_like(values, math.nan)
        margin = trace = distance = math.nan
    elif share > 0:
        errors, biases = _errors_and_biases(table, values, num_largest, share)
        if vectors.shape[1] < loss.size:
            biases = biases + _bias_from_beyond(table, values, num_largest, rest, share)
        margin = quantile(count) * float(errors[0])
        known = table.along if known is None else known
        trace, distance = _trace_and_density(known, probes, share, loss.size)
    return SamplingError(
        population=population,
        num_samples=num_samples,
        num_batches=count,
        eigenvalue_errors=errors[:num_largest],
        eigenvalue_biases=biases[:num_largest],
        smallest_errors=errors[num_largest:],
        smallest_biases=biases[num_largest:],
        largest_interval=(
            float(values[0]) - 2 * float(biases[0]) - margin,
            float(values[0]) + residual + margin,
        ),
        trace_error=trace,
        density_distance=distance,
        num_hvps=spent,
        notes=sampling_notes(count, share, are_drawn=loss.sample.are_drawn),
    )


def _with_probe(
    loss: TrainingLoss | Conductor, vectors: Tensor, generator: torch.Generator
) -> tuple[Tensor, PerBatch, AlongVectors]:
    """Products with the vectors and one probe on their complement, in one pass."""
    count = vectors.shape[1]
    probe = rademacher(
        loss.size, 1, generator=generator, device=loss.device, dtype=loss.dtype
    ).double()
    inside = vectors.double()
    probe = (probe - inside @ (inside.T @ probe)).to(loss.dtype)
    products, table = per_batch_products(loss, torch.cat([vectors, probe], dim=1))
    known = replace(
        table, along=table.along.part(slice(0, count)), forms=table.forms[:, :count, :count]
    )
    return products[:, :count], known, table.along.part(slice(count, None))


def _trace_and_density(
    known: AlongVectors, probes: AlongVectors | None, share: float, size: int
) -> tuple[float, float]:
    """Standard error of the trace, and the bound of the spectra's distance."""
    if known.num_vectors >= size:
        probes = None
    elif probes is None:
        return math.nan, math.nan
    error = math.sqrt(share * trace_variance(known, probes))
    return error, density_distance(known, probes, share, size)


def _errors_and_biases(
    table: PerBatch, values: Tensor, num_largest: int, share: float
) -> tuple[Tensor, Tensor]:
    """``(d,)`` standard errors in first order, and shifts by each other in second order."""
    within = share * variance(table.along.sizes, table.forms)
    # from the top down; the smallest come in ascending order
    order = torch.arange(len(values))
    order[num_largest:] = order[num_largest:].flip(0)
    gaps = (values[:, None] - values).abs()
    shifts = (order - order[:, None]).sign() * repulsion(gaps, within.sqrt())
    return within.diagonal().sqrt(), shifts.sum(dim=1)


def _bias_from_beyond(
    table: PerBatch,
    values: Tensor,
    num_largest: int,
    rest: tuple[float, float] | None,
    share: float,
) -> Tensor:
    """``(d,)`` shifts by the part of the spectrum of which only the range is known."""
    sizes = table.along.sizes
    squares = table.along.deviations.sum(dim=0) / (len(sizes) - 1)
    squares = (squares - variance(sizes, table.forms).sum(dim=0)).clamp_min(0)
    coupling = (share * squares).sqrt()
    largest, smallest = values[:num_largest], values[num_largest:]
    low, high = rest or (float(smallest.max()) if len(smallest) else math.nan, float(largest.min()))
    up = repulsion((largest - high).clamp_min(0), coupling[:num_largest])
    down = repulsion((low - smallest).clamp_min(0), coupling[num_largest:])
    return torch.cat([up, -down])


def repulsion(gap: Tensor, coupling: Tensor) -> Tensor:
    """By how much two levels repel that a coupling ``x`` mixes: ``(sqrt(g^2 + 4 x^2) - g) / 2``.

    Args:
        gap: ``g``, not negative.
        coupling: ``x``, not negative.

    Returns:
        ``x^2 / g`` for a wide gap, ``x`` for none; zero without a coupling.
    """
    far = gap + (gap.square() + 4 * coupling.square()).sqrt()
    return torch.where(coupling > 0, 2 * coupling.square() / far, torch.zeros_like(far))


def sampling_notes(count: int, share: float, *, are_drawn: bool) -> tuple[Note, ...]:
    """What is missing or doubtful in errors read off so many batches."""
    if share == 0:
        return ()
    advice = "Give a smaller `batch_size`, or more samples."
    notes = []
    if count < 3:
        notes.append(
            Note(
                "sampling-errors-unknown",
                "how far the full training set may be is read off the scatter of at least 3 "
                f"batches, but the frozen samples make {count}. {advice}",
            )
        )
    elif count < USEFUL_BATCHES:
        notes.append(
            Note(
                "sampling-errors-uncertain",
                f"sampling errors from {count} batches are themselves uncertain by "
                f"{1 / math.sqrt(2 * (count - 1)):.0%}. {advice}",
            )
        )
    if not are_drawn:
        notes.append(
            Note(
                "batches-not-drawn",
                "the frozen batches were not drawn at random, so that sampling errors read off "
                "their scatter are not those of the full training set. Give a training set with a "
                "length.",
            )
        )
    return tuple(notes)
