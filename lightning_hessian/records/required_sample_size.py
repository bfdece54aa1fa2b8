"""From how many samples on the loss moves by less than a threshold."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from torch import Tensor

from lightning_hessian.records.estimate import Estimate
from lightning_hessian.records.output import shown
from lightning_hessian.statistics import (
    sample_size_by_mean_abs,
    sample_size_by_rms,
    sample_size_uniform,
)

SampleSizeRule = Literal["rms", "mean_abs", "uniform"]
"""What is to be small: the root mean square, the mean absolute value, or all at once."""

QUANTILE = 1.959964
"""Of the normal, for intervals of 95 %."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RequiredSampleSize:
    """From how many samples on the loss moves by less than a threshold.

    Attributes:
        size: The smallest ``k`` for which the rule holds, for it and all larger ones.
        lower: Lower end of its 95 % interval, by the standard error of the losses' spread.
        upper: Upper end.
        threshold: In units of the loss.
        rule: Which difference is to stay below it.
        is_extrapolated: Whether it takes samples that were not measured: ``size >= N``, the
            difference at ``k`` being that made by sample ``k + 1``.
        assumption: What has to hold for it, a clause after "if".
    """

    size: int = field(metadata=shown(""))
    lower: int = field(metadata=shown("_lower", error_of="size", doc="95 % interval"))
    upper: int = field(metadata=shown("_upper", error_of="size", doc="95 % interval"))
    threshold: float
    rule: SampleSizeRule
    is_extrapolated: bool
    assumption: str


class Spread(Protocol):
    """What the rules need to know of a set of losses: ``S^2`` and ``MAD`` with their errors."""

    @property
    def variance(self) -> Estimate:
        """``S^2``."""

    @property
    def mean_absolute_deviation(self) -> Estimate:
        """``MAD``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FurtherLosses:
    """The losses of samples to come, around the mean of those that there are.

    Attributes:
        variance: Mean squared distance to that mean.
        mean_absolute_deviation: Mean distance to it.
    """

    variance: Estimate
    mean_absolute_deviation: Estimate


def required_sample_size(
    threshold: float,
    rule: SampleSizeRule,
    confidence: float,
    *,
    num_samples: int,
    measured: Spread,
    sample_sizes: Tensor,
    mean_distances: Tensor,
    further: Spread,
    num_held_out: int | None,
) -> RequiredSampleSize:
    """Find the smallest ``k`` for which a rule holds from it on.

    The difference at ``k < N`` is made by a measured sample, from ``N`` on by a further one. Where
    further samples need a ``k`` of ``N`` or more, that is the answer; else the measured ones are
    asked, and ``N`` is the answer if they do not suffice though further ones would.

    Args:
        threshold: Positive, in units of the loss.
        rule: Which difference is to stay below it.
        confidence: Of the uniform rule: the probability of its guarantee.
        num_samples: ``N``.
        measured: Of the ``N`` losses.
        sample_sizes: ``(g,)`` at which ``A_k`` is known, from 1 to ``N - 1``, ascending.
        mean_distances: ``(g,)`` ``A_k = (k + 1) E |d_k|``.
        further: Of the losses of further samples.
        num_held_out: How many losses ``further`` is of, if of held-out ones.

    Returns:
        The size with its interval.

    Raises:
        ValueError: If the threshold is not positive, the rule unknown, or the confidence no
            probability.
    """
    if not (threshold > 0 and math.isfinite(threshold)):
        raise ValueError(f"`threshold` must be positive and finite, got {threshold}.")
    if not 0 < confidence < 1:
        raise ValueError(f"`confidence` must lie between 0 and 1, got {confidence}.")

    def size_at(errors: float) -> int:
        variance, deviation = _shifted(measured, errors)
        new_variance, new_deviation = _shifted(further, errors)
        if rule == "rms":
            inside = sample_size_by_rms(variance, threshold)
            outside = sample_size_by_rms(new_variance, threshold)
        elif rule == "mean_abs":
            level = measured.mean_absolute_deviation.value
            scale = deviation / level if level > 0 else 1.0
            curve = _interpolated(sample_sizes, scale * mean_distances)
            inside = _first_below(lambda k: curve(k) / (k + 1), threshold, num_samples)
            outside = sample_size_by_mean_abs(new_deviation, threshold)
        elif rule == "uniform":
            inside = sample_size_uniform(variance, threshold, 1 - confidence, num_samples)
            outside = sample_size_uniform(new_variance, threshold, 1 - confidence)
        else:
            raise ValueError(f"`rule` must be 'rms', 'mean_abs' or 'uniform', got {rule!r}.")
        return outside if outside >= num_samples else min(inside, num_samples)

    size = size_at(0.0)
    assumption = "further samples are like these"
    if num_held_out is not None:
        # within N the samples are the measured ones, past it none is
        is_of_all = size >= num_samples and not isinstance(further, FurtherLosses)
        which = "all" if is_of_all else "further"
        assumption = f"{which} samples are like the {num_held_out:,} held-out ones"
    return RequiredSampleSize(
        size=size,
        lower=size_at(-QUANTILE),
        upper=size_at(QUANTILE),
        threshold=threshold,
        rule=rule,
        is_extrapolated=size >= num_samples,
        assumption=assumption,
    )


def sentence(needed: RequiredSampleSize, num_samples: int, further: Spread) -> str:
    """Tell a required sample size, and the difference at ``N`` beside it.

    Args:
        needed: By the mean absolute difference.
        num_samples: ``N``.
        further: Of the losses of further samples.

    Returns:
        One clause each for the difference now, the size, and the assumption.
    """
    unit = 1
    if needed.upper > needed.lower:
        unit = 10 ** max(0, math.floor(math.log10((needed.upper - needed.lower) / 2)))
    size, lower, upper = (
        max(1, round(n / unit) * unit) for n in (needed.size, needed.lower, needed.upper)
    )
    return (
        f"{difference_clause(num_samples, further)}; below {needed.threshold:g} from about "
        f"{size:,} on (between {lower:,} and {upper:,}), if {needed.assumption}"
    )


def difference_clause(num_samples: int, further: Spread) -> str:
    """Tell by how much one more sample moves the loss.

    Args:
        num_samples: ``N``.
        further: Of the losses of further samples.

    Returns:
        The mean absolute difference at ``N`` with its standard error, in words.
    """
    value = further.mean_absolute_deviation.value / (num_samples + 1)
    error = further.mean_absolute_deviation.standard_error / (num_samples + 1)
    return (
        f"with {num_samples:,} samples one more sample moves the loss by "
        f"{_with_error(value, error)}"
    )


def _shifted(losses: Spread, errors: float) -> tuple[float, float]:
    """``S^2`` and ``MAD``, so many standard errors up; an error that is unknown counts as 0."""
    variance, deviation = (
        max(
            0.0,
            estimate.value
            + errors * (0.0 if math.isnan(estimate.standard_error) else estimate.standard_error),
        )
        for estimate in (losses.variance, losses.mean_absolute_deviation)
    )
    return variance, deviation


def _interpolated(sizes: Tensor, values: Tensor) -> Callable[[int], float]:
    logarithms, heights = np.log(sizes.numpy()), values.numpy()
    return lambda k: float(np.interp(math.log(k), logarithms, heights))


def _first_below(curve: Callable[[int], float], threshold: float, largest: int) -> int:
    """Smallest ``k`` below ``largest`` where a falling curve is below; ``largest`` if none is."""
    low, high = 1, largest
    while low < high:
        middle = (low + high) // 2
        if curve(middle) <= threshold:
            high = middle
        else:
            low = middle + 1
    return low


def _with_error(value: float, error: float) -> str:
    """``3.1e-05 +- 0.2e-05``: both in the value's power of ten, to the first digit of the error."""
    if not (value > 0 and error > 0):
        return f"{value:.1e}"
    power = math.floor(math.log10(value))
    digits = max(1, power - math.floor(math.log10(error)))
    numbers = [f"{x / 10.0**power:.{digits}f}e{power:+03d}" for x in (value, error)]
    return " +- ".join(numbers)
