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
from lightning_hessian.studies.directions import check_orthonormal
from lightning_hessian.studies.draws import look_at_draws
from lightning_hessian.studies.spread import Spread

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
    looks_at_draws: bool = True,
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

    Where the step draws random numbers, the Hessian is meant as its mean over draws. The scatter of
    batches holds that of draws, ``S^2 = S_s^2 + S_d^2``, of which the finite set takes only the
    samples' part away: ``S_d^2 / M`` comes on top of ``f S^2``, from several draws of some batches
    (:func:`look_at_draws`), along the same vectors, which costs as many HVPs as that says.

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
        generator: Source of a probe on the complement of the vectors, in place of ``probes``; it
            must be given where the step draws random numbers, unless the vectors are everything.
        looks_at_draws: Whether to look at other draws where the step draws random numbers; without,
            the samples count as a part of infinitely many.

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
    probe = vectors[:, :0]
    if generator is not None and vectors.shape[1] < loss.size:
        probe = _probe(loss, vectors, generator)
    looked = torch.cat([vectors, probe], dim=1)
    products, table = per_batch_products(loss, looked)
    draws = look_at_draws(loss, looked) if looks_at_draws else None
    if loss.redrawn and draws is None:
        population = None
    spent = looked.shape[1] + (0 if draws is None else draws.num_hvps)
    if probe.shape[1]:
        products, table, probes = _apart(products, table, vectors.shape[1])
    spread = Spread(sizes=table.along.sizes, population=population, draws=draws)
    values = (vectors.double() * products.double()).sum(dim=0).cpu()
    residual = float((products[:, 0].double() - values[0] * vectors[:, 0].double()).norm())
    errors = biases = torch.zeros_like(values)
    margin = trace = distance = 0.0
    if not spread.is_known:
        errors = biases = torch.full_like(values, math.nan)
        margin = trace = distance = math.nan
    elif not spread.is_nothing:
        errors, biases = _errors_and_biases(spread, table, values, num_largest, rest, loss.size)
        margin = spread.quantile * float(errors[0])
        known = table.along if known is None else known
        trace, distance = _trace_and_density(spread, known, probes, loss.size)
    return SamplingError(
        population=population,
        num_samples=spread.num_samples,
        num_batches=len(spread.sizes),
        degrees_of_freedom=spread.degrees_of_freedom,
        num_draws=0 if draws is None else len(draws.forms),
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
        notes=sampling_notes(len(spread.sizes), spread.share, are_drawn=loss.sample.are_drawn),
    )


def _probe(loss: TrainingLoss | Conductor, vectors: Tensor, generator: torch.Generator) -> Tensor:
    """A Rademacher probe ``(n, 1)`` less its part in the span of the vectors."""
    probe = rademacher(
        loss.size, 1, generator=generator, device=loss.device, dtype=loss.dtype
    ).double()
    inside = vectors.double()
    return (probe - inside @ (inside.T @ probe)).to(loss.dtype)


def _apart(products: Tensor, table: PerBatch, count: int) -> tuple[Tensor, PerBatch, AlongVectors]:
    """What belongs to the first vectors, and what to the probes after them."""
    known = replace(
        table, along=table.along.part(slice(0, count)), forms=table.forms[:, :count, :count]
    )
    return products[:, :count], known, table.along.part(slice(count, None))


def _trace_and_density(
    spread: Spread, known: AlongVectors, probes: AlongVectors | None, size: int
) -> tuple[float, float]:
    """Standard error of the trace, and the bound of the spectra's distance."""
    if known.num_vectors >= size:
        probes = None
    elif probes is None:
        return math.nan, math.nan
    error = math.sqrt(spread.of_trace(known, probes))
    return error, spread.of_density(known, probes, size)


def _errors_and_biases(
    spread: Spread,
    table: PerBatch,
    values: Tensor,
    num_largest: int,
    rest: tuple[float, float] | None,
    size: int,
) -> tuple[Tensor, Tensor]:
    """``(d,)`` standard errors in first order, and shifts by other levels in second order."""
    count = len(values)
    within = spread.of(table.forms, lambda draws: draws.variance(draws.forms)[:count, :count])
    # from the top down; the smallest come in ascending order
    order = torch.arange(count)
    order[num_largest:] = order[num_largest:].flip(0)
    gaps = (values[:, None] - values).abs()
    shifts = (order - order[:, None]).sign() * repulsion(gaps, within.sqrt())
    biases = shifts.sum(dim=1)
    if count < size:
        whole = spread.of_norms(
            table.along.deviations,
            lambda draws: draws.variance(draws.sketches).sum(dim=0)[:count],
        )
        coupling = (whole - within.sum(dim=0)).clamp_min(0).sqrt()
        biases = biases + _bias_from_beyond(coupling, values, num_largest, rest)
    return within.diagonal().sqrt(), biases


def _bias_from_beyond(
    coupling: Tensor, values: Tensor, num_largest: int, rest: tuple[float, float] | None
) -> Tensor:
    """``(d,)`` shifts by the part of the spectrum of which only the range is known."""
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
