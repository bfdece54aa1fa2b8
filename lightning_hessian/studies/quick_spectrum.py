"""Leading eigenvalue and trace by a handful of products, and how far the full training set is."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_hessian.hvp import CrossedForms, CrossedOperator
from lightning_hessian.linalg import TrackedSpace, tracked_space, tracked_trace
from lightning_hessian.loss import Conductor, TrainingLoss
from lightning_hessian.records import Eigenvalues, Note, SamplingError, TraceEstimate
from lightning_hessian.studies.draws import Draws, look_at_draws
from lightning_hessian.studies.sampling_error import repulsion, sampling_notes
from lightning_hessian.studies.spread import Spread
from lightning_hessian.studies.trade import FAIR_PRODUCTS, FIRST_PRODUCTS

MAX_RESIDUAL = 0.5
"""Of the leading Ritz value, up to which it is taken for an eigenvalue at all."""
MAX_RESIDUAL_BEYOND = 0.2
"""Of each Ritz value after it, the same. Seen to be 15 % off then, and twice that from 0.3 on."""
VECTORS_FOR_EACH = 2
"""Vectors of the space for each eigenvalue after the first: fewer often leave one out."""
ENOUGH_PRODUCTS, ENOUGH_AFRESH = FAIR_PRODUCTS, FIRST_PRODUCTS
"""From which on a larger eigenvalue seldom hides above the leading pair's bound."""
LOOKED_AT = 2
"""Vectors that other draws are seen through: the leading one, and the trace's probe."""
FOLLOWED = 0.5
"""Of the leading vector's square, what of it was recycled where it is still the one before."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class QuickSpectrum:
    """What a handful of products tell.

    Attributes:
        largest: The largest eigenvalues, descending, as far as their residual bounds are small:
            perhaps fewer than were asked for, perhaps none.
        trace: Of the frozen samples; None if not asked for, or where the only product went to the
            leading vector.
        sampling: How far the full training set may be; None where that is unknown.
        vectors: ``(n, d)`` orthonormal, to be recycled by the next report; the leading one first.
        values: ``(d,)`` float64, their Ritz values, to be recycled with them.
        num_hvps: Products spent.
        notes: What is missing or doubtful, and why.
    """

    largest: Eigenvalues
    trace: TraceEstimate | None
    sampling: SamplingError | None
    vectors: Tensor
    values: Tensor
    num_hvps: int
    notes: tuple[Note, ...] = ()


def quick_spectrum(
    loss: TrainingLoss | Conductor,
    *,
    num_products: int,
    recycled: Tensor | None = None,
    recycled_values: Tensor | None = None,
    num_eigenvalues: int = 5,
    trace: bool = True,
    rtol: float = 1e-2,
    trace_rtol: float = 0.05,
    generator: torch.Generator,
    population: int | None = None,
    looks_at_draws: bool = True,
    product_error: Callable[[], float] | None = None,
    on_products: Callable[[int], None] | None = None,
) -> QuickSpectrum:
    r"""Measure what a few products can buy, on samples that leave more open than the products do.

    The products make a :func:`tracked_space` from the vector of the report before and a fresh
    probe, which also gives the trace. Each product remembers what single batches do between all
    vectors so far, so that the Hessian ``H_b`` of each is known on the space, whatever vector is
    found in it: no product is spent on the sampling errors.

    - Leading eigenvalue ``theta``, a lower bound of ``lambda_1(H_N)`` but for rounding. That is
      larger than ``lambda_1(H_M)`` on average, and of both deviations neither prevails: corrected
      for either or both, the error against the full training set was seen to stay as it is.
    - Its interval for ``lambda_1(H_M)`` has ``theta exp(-t s / theta) - 2 b`` as its lower end and
      ``theta exp(t s / theta) + r`` as its upper one, with the standard error ``s = sqrt(f
      S^2(y . H_i y))`` over batches, the bias ``b`` of :func:`sampling_error`, where the rest of
      the spectrum counts as lying at zero, and the residual ``r``. Batches' ``y . H_b y`` are
      skewed like sums of squares, hence the exponential. Seen to cover 91 to 98 % along
      trainings.
    - With fewer than four products the pair may not be the leading one, however small its residual:
      the upper end is then infinite. Without a recycled vector it is so with fewer than six (of
      four, the largest eigenvalue was above the bound in a third of starts, of six in a ninth).
      From there on, the end is higher by what the last product has added to ``theta``, and so it is
      where less than half of the leading vector was recycled.
    - The trace and its interval are those of the frozen samples; its sampling error, from above, is
      that of what the batches would have given each.

    Costs ``num_products`` HVPs, those of a look at other draws, and per batch and product as many
    inner products as there are vectors before.

    Args:
        loss: Over the frozen batches.
        num_products: At least one, mostly 4 to 13.
        recycled: ``vectors`` of the report before, ``(n, d)``.
        recycled_values: Its ``values``: those of vectors that get no product make the trace's error
            smaller.
        num_eigenvalues: Largest eigenvalues wanted.
        trace: Whether to give the trace.
        rtol: Tolerance of the eigenvalues' bounds, to be called converged.
        trace_rtol: The same of the trace's standard error.
        generator: Source of the probe, on the CPU; another state for each report.
        population: ``M``; None where it is unknown.
        looks_at_draws: Whether to look at other draws where the step draws random numbers, which
            costs what :func:`price_of_draws` says of :data:`LOOKED_AT` vectors; without, the
            samples count as a part of infinitely many.
        product_error: Norm of what the products are off by; as the loss has it when None.
        on_products: Told the number of products after each block.

    Returns:
        What was found.

    Raises:
        ValueError: If no product is allowed, the recycled vectors do not fit, or there are more
            samples than the population has.
        NonFiniteError: If a product is not finite.

    Example:
        >>> from lightning_hessian.hvp import open_loss
        >>> generator = torch.Generator().manual_seed(0)
        >>> samples = list(torch.randn(60, 1, 9, generator=generator) * torch.linspace(0, 3, 9))
        >>> network = torch.nn.Linear(9, 1, bias=False)
        >>> with open_loss(network, lambda x, _: network(x).square().mean(), samples) as loss:
        ...     found = quick_spectrum(loss, num_products=6, generator=generator)
        >>> low, high = found.sampling.largest_interval
        >>> low < 2 * 3.0**2 < high  # of infinitely many samples
        True
    """
    is_exact = loss.products.quality.method == "exact"
    operator = CrossedOperator(loss) if is_exact else loss.products
    space = tracked_space(
        operator,
        num_products=num_products,
        recycled=recycled,
        recycled_values=recycled_values,
        generator=generator,
        on_products=on_products,
    )
    pairs = _Pairs.of(space)
    error = loss.products.quality.error if product_error is None else product_error()
    largest = _trusted(pairs, num_eigenvalues, error, rtol, is_whole=space.is_whole)
    has_trace = trace and (space.is_whole or space.probe is not None)
    sampling, notes = None, _missing(largest, has_trace=has_trace or not trace)
    num_hvps = space.dimension
    if isinstance(operator, CrossedOperator):
        crossed = operator.take()
        draws = None
        if looks_at_draws:
            draws = look_at_draws(
                loss, _looked_at(space, pairs), space.basis.combine(pairs.coordinates)
            )
        if loss.redrawn and draws is None:
            population = None
        num_hvps += 0 if draws is None else draws.num_hvps
        spread = Spread(sizes=crossed.along.sizes, population=population, draws=draws)
        sampling, more = _sampling(crossed, spread, space, pairs, len(largest.values), error)
        notes += more + sampling_notes(
            len(spread.sizes), spread.share, are_drawn=loss.sample.are_drawn
        )
    else:
        notes += (_DIFFERENCES,)
    kept = max(1, min(num_eigenvalues, space.dimension))
    return QuickSpectrum(
        largest=largest,
        trace=tracked_trace(space, rtol=trace_rtol) if has_trace else None,
        sampling=sampling,
        vectors=space.followed(pairs.coordinates[:, :kept]),
        values=pairs.values[:kept],
        num_hvps=num_hvps,
        notes=notes,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Pairs:
    """Ritz pairs, the largest first."""

    values: Tensor
    coordinates: Tensor
    residuals: Tensor

    @classmethod
    def of(cls, space: TrackedSpace) -> _Pairs:
        values, coordinates, residuals = space.ritz()
        return cls(values=values, coordinates=coordinates, residuals=residuals)


def _trusted(
    pairs: _Pairs, count: int, error: float, rtol: float, *, is_whole: bool
) -> Eigenvalues:
    """The largest up to the first whose bound is not small against itself."""
    if not is_whole:
        count = min(count, max(1, len(pairs.values) // VECTORS_FOR_EACH))
    values, bounds = pairs.values[:count], pairs.residuals[:count] + error
    scale = float(pairs.values.abs().max())
    limits = MAX_RESIDUAL_BEYOND * values.abs()
    limits[:1] = MAX_RESIDUAL * values[:1].abs()
    if is_whole:
        limits = torch.full_like(limits, math.inf)
    number = int((bounds <= limits).long().cumprod(dim=0).sum())
    values, bounds = values[:number], bounds[:number]
    converged = bounds <= rtol * values.abs().clamp_min(0.01 * scale)
    return Eigenvalues(values=values, residual_bounds=bounds, converged=converged)


def _looked_at(space: TrackedSpace, pairs: _Pairs) -> Tensor:
    """``(n, d)`` what other draws are seen through: the leading vector and that of the trace."""
    if space.is_whole:
        return space.basis.combine(pairs.coordinates)
    leading = space.basis.combine(pairs.coordinates[:, :1])
    if space.probe is None:
        return leading
    chosen = torch.eye(space.dimension, dtype=torch.float64)[:, space.num_recycled, None]
    return torch.cat([leading, space.basis.combine(chosen)], dim=1)


def _sampling(
    crossed: CrossedForms,
    spread: Spread,
    space: TrackedSpace,
    pairs: _Pairs,
    num_largest: int,
    error: float,
) -> tuple[SamplingError | None, tuple[Note, ...]]:
    """Sampling errors of what was found, with notes on what they cannot say."""
    if not spread.is_known:
        return None, ()
    kept = max(num_largest, 1)
    errors = biases = torch.zeros(kept, dtype=torch.float64)
    trace = distance = margin = 0.0
    if not spread.is_nothing:
        errors, biases = _errors_and_biases(crossed, spread, pairs, kept)
        trace, distance = _trace_error(crossed, spread, space), math.nan
        margin = spread.quantile * float(errors[0])
    theta, residual = float(pairs.values[0]), float(pairs.residuals[0]) + error
    down, up = _skewed(theta, margin)
    above = residual + _unfinished(space, pairs)
    found = SamplingError(
        population=spread.population,
        num_samples=spread.num_samples,
        num_batches=len(spread.sizes),
        degrees_of_freedom=spread.degrees_of_freedom,
        num_draws=0 if spread.draws is None else len(spread.draws.forms),
        eigenvalue_errors=errors[:num_largest],
        eigenvalue_biases=biases[:num_largest],
        smallest_errors=errors[:0],
        smallest_biases=errors[:0],
        largest_interval=(theta - down - 2 * float(biases[0]) - error, theta + up + above),
        trace_error=trace,
        density_distance=distance,
        num_hvps=0,
    )
    return found, (_few_products(space),) if math.isinf(above) else ()


def _unfinished(space: TrackedSpace, pairs: _Pairs) -> float:
    """How far above the leading pair's bound a larger eigenvalue may be."""
    if space.is_whole or (space.probe is not None and _is_zero(pairs)):
        return 0.0
    count = space.num_recycled
    if space.dimension < (ENOUGH_PRODUCTS if count else ENOUGH_AFRESH):
        return math.inf
    if float(pairs.coordinates[:count, 0].square().sum()) >= FOLLOWED:
        return 0.0
    # found by the steps from the probe alone, and these may not have come to rest
    before = torch.linalg.eigvalsh(space.projection[:-1, :-1])[-1]
    return float(pairs.values[0] - before)


def _is_zero(pairs: _Pairs) -> bool:
    """Whether products were all exactly zero: a random probe's, of the zero matrix alone."""
    return not bool(pairs.values.any()) and not bool(pairs.residuals.any())


def _skewed(theta: float, margin: float) -> tuple[float, float]:
    """How far down and up a margin reaches in the logarithm of a positive value."""
    if not theta > margin > 0:
        return margin, margin
    ratio = math.exp(margin / theta)
    return theta * (1 - 1 / ratio), theta * (ratio - 1)


def _errors_and_biases(
    crossed: CrossedForms, spread: Spread, pairs: _Pairs, kept: int
) -> tuple[Tensor, Tensor]:
    """``(kept,)`` standard errors and biases of the largest Ritz values."""
    # draws are seen through the leading vector alone: to the others the samples count as a part of
    # infinitely many, whose errors are from above
    coordinates, leading = pairs.coordinates, pairs.coordinates[:, :kept]
    forms, sketches = coordinates.T @ crossed.forms @ coordinates, crossed.sketches @ leading
    loose = spread if spread.draws is None else spread.without_draws()
    within, whole = loose.of(forms), loose.of(sketches).sum(dim=0)
    if spread.draws is not None:
        first = spread.of(forms[:, 0], lambda draws: draws.variance(draws.beside)[:, 0])
        within[0] = within[:, 0] = first
        whole[0] = spread.of(
            sketches[:, :, 0], lambda draws: draws.variance(draws.sketches)[:, 0]
        ).sum()
    order = torch.arange(len(pairs.values))
    gaps = (pairs.values[:, None] - pairs.values).abs()
    shifts = (order - order[:, None]).sign() * repulsion(gaps, within.sqrt())
    # what couples to the outside of the space, whose level is taken for zero
    outside = (whole - within[:, :kept].sum(dim=0)).clamp_min(0).sqrt()
    beyond = repulsion(pairs.values[:kept].clamp_min(0), outside)
    return within.diagonal().sqrt()[:kept], shifts.sum(dim=1)[:kept] + beyond


def _trace_error(crossed: CrossedForms, spread: Spread, space: TrackedSpace) -> float:
    """Standard error of the trace over samples, the probe's own noise left in; nan without one."""
    diagonal = crossed.forms.diagonal(dim1=1, dim2=2)
    count = space.num_recycled
    if space.is_whole:
        traces = diagonal.sum(dim=1)
    elif space.probe is None:
        return math.nan
    else:
        traces = diagonal[:, :count].sum(dim=1) + space.probe.length**2 * diagonal[:, count]

    def drawn(draws: Draws) -> Tensor:
        own = draws.forms.diagonal(dim1=2, dim2=3)
        if space.is_whole or space.probe is None:
            return draws.variance(own.sum(dim=2))
        # the leading vector is near enough to the recycled one
        followed = own[:, :, 0] if count else 0.0
        return draws.variance(followed + space.probe.length**2 * own[:, :, 1])

    return math.sqrt(spread.of(traces, drawn))


def _missing(largest: Eigenvalues, *, has_trace: bool) -> tuple[Note, ...]:
    notes = []
    if len(largest.values) == 0:
        notes.append(
            Note(
                "eigenvalues-not-found",
                "the products were too few for the largest eigenvalue. The next report starts from "
                "what they found; allow more for each.",
            )
        )
    if not has_trace:
        notes.append(Note("trace-not-measured", "the only product went to the largest eigenvalue."))
    return tuple(notes)


def _few_products(space: TrackedSpace) -> Note:
    count, enough = space.dimension, ENOUGH_PRODUCTS if space.num_recycled else ENOUGH_AFRESH
    start = "" if space.num_recycled else ", without a report before,"
    return Note(
        "largest-may-be-missed",
        f"with {count} product{'s' * (count > 1)}{start} a larger eigenvalue may have been missed: "
        f"the interval has no upper end. From {enough} on it has.",
    )


_DIFFERENCES = Note(
    "sampling-errors-unknown",
    "how far the full training set may be is read off exact products of single batches, but those "
    "of this loss are differences of gradients.",
)
