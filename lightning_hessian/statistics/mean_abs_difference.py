"""The mean distance of a further loss to the mean of ``k`` others, over random orders.

``A_k = E |l_{k+1} - L_k| = (k + 1) E |d_k|`` has no closed form but at both ends. It is averaged
here over random subsets with all that is known of a subset done exactly (Rao-Blackwell).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

MAX_SUBSETS = 20_000
"""Up to so many subsets of one size are all visited; more are sampled."""

NUM_DRAWS = 2**15
"""Losses drawn for each ``k``, all orders together: an error below an eighth of the sampling's."""

MAX_LOSSES_AT_ONCE = 2**20
"""Of several orders, 8 MB."""

MIN_ORDERS, MAX_ORDERS = 16, 4096
"""Independent orders: the error of the estimate is their scatter."""

NUM_INFLUENCE_SUBSETS = 256
NUM_INFLUENCE_POINTS = 33
NUM_ANCHORS = 8
"""Sizes at which the sampling error is computed; between them it is smooth in ``log k``."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MeanDistance:
    """``A_k`` over the ``N`` losses.

    Attributes:
        value: The estimate, or the exact value.
        error: Standard error of the estimate at these losses, by the scatter of at least 16
            orders; 0 where all subsets were visited.
        sampling_error: Standard error of ``A_k`` as an estimate of the population's.
    """

    value: float
    error: float
    sampling_error: float


class SortedLosses:
    """``(N,)`` losses ascending, with sums that give the distances to any point in ``O(log N)``."""

    def __init__(self, losses: Tensor) -> None:
        self.values = losses.sort().values
        self._sums = torch.cat([losses.new_zeros(1), self.values.cumsum(dim=0)])

    def distance_sum(self, points: Tensor) -> Tensor:
        """``sum_i |l_i - x|`` for each point ``x``: those below count ``x - l_i``."""
        below = torch.searchsorted(self.values, points)
        return points * (2 * below - len(self.values)) - 2 * self._sums[below] + self._sums[-1]

    def influence_on_deviation(self) -> Tensor:
        """Influence of each loss on ``MAD``, up to a constant.

        ``MAD = E |X - mu|`` moves with the distribution and with ``mu``, and
        ``d E |X - m| / dm = P(X < m) - P(X > m)``. Hence ``|l - mu| + (2 F(mu) - 1) (l - mu)``, by
        ascending losses.
        """
        centred = self.values - self.values.mean()
        return centred.abs() + centred.sign().mean().neg() * centred


def mean_distances(
    losses: SortedLosses, sample_sizes: list[int], generator: torch.Generator
) -> list[MeanDistance]:
    """Estimate ``A_k = E |l_{k+1} - L_k|`` over random orders, for each ``k``.

    Given the ``k`` losses that come first, the next is any of the others with equal probability,
    and the mean over all of them is a sum over sorted losses. What is left to average over is the
    subset: one random order is cut into ``N // m`` subsets of ``m = min(k, N - k)`` losses, which
    come first (``k <= N / 2``) or last. Their means sum to almost a constant, so that what is
    linear in the subset's mean cancels within an order; the scatter of the orders' averages is the
    error. Where there are few subsets all are visited and the result is exact: ``k = 1`` and
    ``k = N - 1`` always.

    The sampling error is computed at up to eight of the ``k`` below ``N / 2``, and interpolated
    between.

    Costs ``O(N)`` for each order and ``k``, from 1 to ``N - 1``.
    """
    count = len(losses.values)
    collected: list[list[Tensor]] = [[] for _ in sample_sizes]
    errors: dict[int, float] = {}
    sampled = []
    for index, k in enumerate(sample_sizes):
        subsets = _all_subsets(losses.values, min(k, count - k))
        if subsets is None:
            sampled.append(index)
        else:
            collected[index].append(_given_subsets(losses, subsets, k).mean()[None])
            errors[k] = _error_of(_influence(losses, subsets, k))
    first = [sample_sizes[index] for index in sampled if 2 * sample_sizes[index] <= count]
    anchors = _anchors(sorted(first))
    for orders in _random_orders(losses.values, generator) if sampled else ():
        for index in sampled:
            k = sample_sizes[index]
            size = min(k, count - k)
            subsets = orders[:, : count // size * size].reshape(len(orders), -1, size)
            collected[index].append(_given_subsets(losses, subsets, k).mean(dim=1))
            if k in anchors and k not in errors:
                errors[k] = _error_of(_influence(losses, subsets.flatten(0, 1), k))
    # where the subset comes last the influence is another, and the same for all sizes
    of_deviation = _error_of(losses.influence_on_deviation())
    errors |= {k: of_deviation for k in sample_sizes if 2 * k > count and k not in errors}
    errors |= _between(anchors, errors, [k for k in sample_sizes if k not in errors])
    return [
        _summary(torch.cat(parts), errors[k])
        for parts, k in zip(collected, sample_sizes, strict=True)
    ]


def _anchors(sizes: list[int]) -> list[int]:
    """A few of these, evenly spaced, the first and the last among them."""
    if len(sizes) <= NUM_ANCHORS:
        return sizes
    step = (len(sizes) - 1) / (NUM_ANCHORS - 1)
    return [sizes[round(i * step)] for i in range(NUM_ANCHORS)]


def _between(anchors: list[int], errors: dict[int, float], sizes: list[int]) -> dict[int, float]:
    """What is known at the anchors, at sizes between them."""
    if not sizes:
        return {}
    found = np.interp(np.log(sizes), np.log(anchors), [errors[k] for k in anchors])
    return dict(zip(sizes, found.tolist(), strict=True))


def _error_of(influence: Tensor) -> float:
    return float(influence.std()) / math.sqrt(len(influence))


def _random_orders(values: Tensor, generator: torch.Generator) -> Iterator[Tensor]:
    """``(orders, N)`` the losses in random orders, as many at once as the memory is for."""
    count = len(values)
    num_orders = min(max(MIN_ORDERS, NUM_DRAWS // count), MAX_ORDERS)
    at_once = max(1, MAX_LOSSES_AT_ONCE // count)
    for start in range(0, num_orders, at_once):
        orders = range(min(at_once, num_orders - start))
        yield torch.stack([values[torch.randperm(count, generator=generator)] for _ in orders])


def _summary(per_order: Tensor, sampling_error: float) -> MeanDistance:
    exact = len(per_order) == 1
    return MeanDistance(
        value=float(per_order.mean()),
        error=0.0 if exact else float(per_order.std()) / math.sqrt(len(per_order)),
        sampling_error=sampling_error,
    )


def _all_subsets(values: Tensor, size: int) -> Tensor | None:
    """``(count, size)`` every subset of the losses; None if there are too many."""
    if size == 1:
        return values[:, None]
    count = len(values)
    # the logarithm first: the binomial itself has as many digits as there are losses
    logarithm = math.lgamma(count + 1) - math.lgamma(size + 1) - math.lgamma(count - size + 1)
    if logarithm > math.log(MAX_SUBSETS) + 1 or math.comb(count, size) > MAX_SUBSETS:
        return None
    indices = np.fromiter(
        itertools.chain.from_iterable(itertools.combinations(range(count), size)), np.int64
    )
    return values[torch.from_numpy(indices).view(-1, size)]


def _given_subsets(losses: SortedLosses, subsets: Tensor, k: int) -> Tensor:
    """Mean distance of the next loss to ``L_k``, given which losses are the subset."""
    count = len(losses.values)
    if k == subsets.shape[-1]:  # the subset comes first: all losses but its own may be next
        means = subsets.mean(dim=-1)
        own = (subsets - means[..., None]).abs().sum(dim=-1)
        return (losses.distance_sum(means) - own) / (count - k)
    means = (losses.values.sum() - subsets.sum(dim=-1)) / k  # the subset comes last
    return (subsets - means[..., None]).abs().mean(dim=-1)


def _influence(losses: SortedLosses, subsets: Tensor, k: int) -> Tensor:
    """Influence of each loss on ``A_k``, up to a constant, losses ascending.

    ``A_k`` over the ``N`` samples is a U-statistic of degree ``k + 1``; its projection on single
    samples (Hoeffding, 1948) has at ``l`` the two parts ``E |l - L_k|``, the loss being the next,
    and ``k E |X - ((k - 1) L_{k-1} + l) / k|``, the loss being one of the ``k``. For large ``k``
    they become the two parts of ``MAD``'s, which are taken where the subset comes last.
    The second is smooth and convex in ``l``: a few points of it are joined by straight lines.
    """
    if subsets.shape[-1] != k:
        return losses.influence_on_deviation()
    subsets = subsets[:: max(1, len(subsets) // NUM_INFLUENCE_SUBSETS)]
    as_next = SortedLosses(subsets.mean(dim=1)).distance_sum(losses.values) / len(subsets)
    count = len(losses.values)
    chosen = torch.linspace(0, count - 1, NUM_INFLUENCE_POINTS, dtype=torch.float64).long()
    points = losses.values[chosen]
    means = (subsets[:, 1:].sum(dim=1)[:, None] + points) / k
    as_one_of_first = k * losses.distance_sum(means).mean(dim=0) / count
    joined = np.interp(losses.values.numpy(), points.numpy(), as_one_of_first.numpy())
    return as_next + torch.from_numpy(joined)
