"""The largest eigenvalue and the trace from a handful of products, with all their errors."""

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
from lightning_hessian.studies.batch_statistics import quantile, sampling_share, variance
from lightning_hessian.studies.sampling_error import repulsion, sampling_notes

NEAR = 0.2
"""Of the range: an eigenvalue beside the largest is told if its bound is below."""
TRACE_RTOL = 0.05
ENOUGH_PRODUCTS = 5
"""After fewer a pair may not be the leading one, however small its residual."""
SPREAD = 1.5
"""By which the second moment of one probe is enlarged where it has to bound what was not found."""
ROUNDINGS = 64


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class QuickSpectrum:
    """What few products tell.

    Attributes:
        largest: The leading eigenvalue, and those after it that are known well enough.
        trace: None where it was not asked for, or no product was left for its probe.
        sampling: How far the full training set may be; None where nothing tells.
        vectors: ``(n, d)`` orthonormal, to start the next report from, the leading one first.
        values: ``(d,)`` the Ritz values that go with these.
        num_hvps: Products spent.
        notes: What is missing, and why.
    """

    largest: Eigenvalues
    trace: TraceEstimate | None
    sampling: SamplingError | None
    vectors: Tensor
    values: Tensor
    num_hvps: int
    notes: tuple[Note, ...]


def quick_spectrum(
    loss: TrainingLoss | Conductor,
    *,
    num_products: int,
    recycled: Tensor | None = None,
    recycled_values: Tensor | None = None,
    num_eigenvalues: int = 5,
    trace: bool = True,
    generator: torch.Generator,
    population: int | None = None,
    on_products: Callable[[int], None] | None = None,
) -> QuickSpectrum:
    r"""Measure the largest eigenvalue and the trace by a given number of products.

    A space is grown from the last report's leading vector and a fresh probe
    (:func:`~lightning_hessian.linalg.tracked_space`). Its leading Ritz value ``theta`` is told with
    its residual norm ``r``, the trace from the probe. How each batch's Hessian lies in the space
    comes with the products, so that sampling errors cost nothing: with ``f = 1/N - 1/M``, the
    variance ``S^2`` over samples read off the batches, and a bias ``b`` in second order as in
    :func:`sampling_error`, the interval of the full training set's largest eigenvalue is

        ``[theta - b - t s, theta + r + t s]``,  ``s^2 = f S^2(y . H_i y)``.

    A Ritz value is below the samples' own largest eigenvalue as that is, on average, above the full
    set's: one bias counts, not two. After fewer than five products its upper end is that of a
    matrix whose part beyond the pair is bounded by the probe's second moment.

    Costs ``num_products`` HVPs at most.

    Args:
        loss: Over the frozen batches.
        num_products: At least one.
        recycled: ``(n, d)`` vectors of the report before, the leading one first.
        recycled_values: ``(d,)`` their eigenvalues then.
        num_eigenvalues: Most eigenvalues to tell.
        trace: Whether the trace is wanted.
        generator: Source of the probe, on the CPU; another one than the vectors were found with.
        population: ``M``; None where it is unknown.
        on_products: Told the number of products after each block.

    Returns:
        The numbers, as far as the products reach.

    Raises:
        ValueError: If no product is allowed, or the vectors do not fit.

    Example:
        >>> from lightning_hessian.hvp import open_loss
        >>> generator = torch.Generator().manual_seed(0)
        >>> samples = list(torch.randn(60, 1, 2, generator=generator) * torch.tensor([3.0, 1.0]))
        >>> network = torch.nn.Linear(2, 1, bias=False)
        >>> with open_loss(network, lambda x, _: network(x).square().mean(), samples) as loss:
        ...     found = quick_spectrum(loss, num_products=2, generator=generator)
        >>> low, high = found.sampling.largest_interval
        >>> low < 2 * 3.0**2 < high  # of infinitely many samples
        True
    """
    is_exact = loss.products.quality.method == "exact"
    operator = CrossedOperator(loss) if is_exact and not loss.sample.is_whole else None
    space = tracked_space(
        operator or loss.products,
        num_products=num_products,
        recycled=recycled,
        recycled_values=recycled_values,
        generator=generator,
        on_products=on_products,
    )
    values, coordinates, residuals = space.ritz()
    noise = ROUNDINGS * torch.finfo(loss.dtype).eps * float(values.abs().max())
    bounds = residuals + noise + loss.products.quality.error
    count = _num_told(values, bounds, num_eigenvalues)
    sampling: SamplingError | None = None
    if operator is not None:
        reach = _reach(space, float(values[0]), float(bounds[0]))
        sampling = _sampling(operator.take(), space, count, reach, loss, population)
    kept = min(num_eigenvalues, len(values))
    return QuickSpectrum(
        largest=Eigenvalues(
            values=values[:count], residual_bounds=bounds[:count], converged=bounds[:count] <= noise
        ),
        trace=_trace(space) if trace else None,
        sampling=sampling,
        vectors=space.followed(coordinates[:, :kept]),
        values=values[:kept],
        num_hvps=space.dimension,
        notes=() if sampling is None else sampling.notes,
    )


def _num_told(values: Tensor, bounds: Tensor, most: int) -> int:
    """How many of the largest are known well enough; the first is told in any case."""
    extent = max(float(values[0] - values[-1]), float(values.abs().max()))
    far = (bounds[:most] > NEAR * extent).nonzero()
    return max(int(far[0]) if len(far) else min(most, len(values)), min(most, 1))


def _trace(space: TrackedSpace) -> TraceEstimate | None:
    if space.probe is None and not space.is_whole:
        return None
    return tracked_trace(space, rtol=TRACE_RTOL)


def _reach(space: TrackedSpace, value: float, bound: float) -> float:
    """How far above its Ritz value the samples' own largest eigenvalue may be."""
    if space.is_whole:
        return bound
    if space.dimension >= ENOUGH_PRODUCTS:
        return bound
    if space.probe is None:
        return math.inf
    beyond = tracked_trace(space, rtol=TRACE_RTOL).standard_error
    above = SPREAD * beyond / math.sqrt(2)
    return (above - value) / 2 + math.hypot((above - value) / 2, bound)


def _sampling(
    forms: CrossedForms,
    space: TrackedSpace,
    count: int,
    reach: float,
    loss: TrainingLoss | Conductor,
    population: int | None,
) -> SamplingError:
    """Errors of Ritz values and trace as those of the full training set."""
    sizes = forms.along.sizes
    values, coordinates, _ = space.ritz()
    share = sampling_share(round(float(sizes.sum())), population)
    errors = biases = torch.zeros(count, dtype=torch.float64)
    margin = trace = 0.0
    if share > 0 and len(sizes) < 3:
        errors = biases = torch.full((count,), math.nan, dtype=torch.float64)
        margin = trace = math.nan
    elif share > 0:
        inside = coordinates.T @ forms.forms @ coordinates
        scatter = share * variance(sizes, inside)
        errors = scatter.diagonal()[:count].sqrt()
        biases = _biases(scatter, values, _beyond(forms, coordinates, scatter, share), count)
        margin = quantile(len(sizes)) * float(errors[0]) if count else math.nan
        trace = _trace_error(forms, space, share)
    nothing = torch.zeros(0, dtype=torch.float64)
    first = float(values[0])
    bias = float(biases[0]) if count else math.nan
    return SamplingError(
        population=population,
        num_samples=round(float(sizes.sum())),
        num_batches=len(sizes),
        eigenvalue_errors=errors,
        eigenvalue_biases=biases,
        smallest_errors=nothing,
        smallest_biases=nothing,
        largest_interval=(first - bias - margin, first + reach + margin),
        trace_error=trace,
        density_distance=math.nan,
        num_hvps=0,
        notes=sampling_notes(len(sizes), share, are_drawn=loss.sample.are_drawn),
    )


def _beyond(forms: CrossedForms, coordinates: Tensor, scatter: Tensor, share: float) -> Tensor:
    """``(k,)`` squared couplings of each Ritz vector to what is outside the space."""
    whole = share * variance(forms.along.sizes, forms.sketches @ coordinates).sum(dim=0)
    return (whole - scatter.sum(dim=0)).clamp_min(0)


def _biases(scatter: Tensor, values: Tensor, beyond: Tensor, count: int) -> Tensor:
    """``(count,)`` by how much the largest are too large on average, in second order."""
    gaps = (values[:, None] - values).abs()
    order = torch.arange(len(values))
    shifts = (order - order[:, None]).sign() * repulsion(gaps, scatter.sqrt())
    # what was not found lies at the bulk, about zero
    outside = repulsion(values.clamp_min(0), beyond.sqrt())
    return (shifts.sum(dim=1) + outside)[:count]


def _trace_error(forms: CrossedForms, space: TrackedSpace, share: float) -> float:
    """From above: the probe's own noise, as far as it differs between batches, is left in."""
    diagonals = forms.forms.diagonal(dim1=1, dim2=2)
    weights = torch.ones(space.dimension, dtype=torch.float64)
    if not space.is_whole:
        if space.probe is None:
            return math.nan
        weights[space.num_recycled :] = 0
        weights[space.num_recycled] = space.probe.length**2
    return math.sqrt(share * float(variance(forms.along.sizes, diagonals @ weights)))
