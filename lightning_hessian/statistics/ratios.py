"""Two ways to average a ratio over batches, each with its standard error."""

from __future__ import annotations

import math

from torch import Tensor


def mean_of_ratios(
    numerators: Tensor, denominators: Tensor, *, share: float = 0.0
) -> tuple[float, float]:
    """``E[a / c]`` and its standard error, ``s / sqrt(n)`` of the ratios.

    Unbiased for any number of draws.

    Args:
        numerators: ``(n,)`` ``a``.
        denominators: ``(n,)`` ``c``, all above zero.
        share: Of a finite set of which these were drawn without replacement; 0 of an infinite one.

    Returns:
        The mean and its standard error; of one draw the latter is 0 where it is the whole set, else
        ``nan``.

    Example:
        >>> import torch
        >>> mean_of_ratios(torch.tensor([2.0, 12.0]), torch.tensor([1.0, 3.0]))
        (3.0, 1.0)
    """
    ratios = numerators.double() / denominators.double()
    count = len(ratios)
    if share == 1:
        return float(ratios.mean()), 0.0
    error = float(ratios.std()) / math.sqrt(count) if count > 1 else math.nan
    return float(ratios.mean()), error * math.sqrt(1 - share)


def ratio_of_means(
    numerators: Tensor, denominators: Tensor, *, share: float = 0.0
) -> tuple[float, float]:
    """``E[a] / E[c]`` and its standard error, by the jackknife.

    Each draw is left out once: ``s^2 = (n - 1) / n sum (R_i - mean R)^2``. The ratio is off by
    order ``1 / n``. The delta method's error comes out smaller where some of the denominators are
    far larger than the others, and covers less.

    Args:
        numerators: ``(n,)`` ``a``.
        denominators: ``(n,)`` ``c``, at least zero.
        share: As in :func:`mean_of_ratios`.

    Returns:
        The ratio and its standard error; of one draw as there, and ``nan`` where all denominators
        but one are zero.

    References:
        B. Efron and C. Stein (1981), The jackknife estimate of variance, Ann. Stat. 9, 586-596.

    Example:
        >>> import torch
        >>> ratio_of_means(torch.tensor([2.0, 12.0]), torch.tensor([1.0, 3.0]))
        (3.5, 1.0)
    """
    above, below = numerators.double(), denominators.double()
    count = len(above)
    ratio = float(above.sum() / below.sum())
    if share == 1:
        return ratio, 0.0
    if count < 2:
        return ratio, math.nan
    without = (above.sum() - above) / (below.sum() - below)
    spread = float((without - without.mean()).square().sum())
    return ratio, math.sqrt((count - 1) / count * spread) * math.sqrt(1 - share)
