"""Two means of a ratio over batches: by hand, and how often their errors cover."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from scipy import stats
from torch import Tensor

from lightning_hessian.statistics import mean_of_ratios, ratio_of_means

REPETITIONS = 600
# of a share of 0.95 among as many: four standard errors of a binomial
WITHIN = 4 * math.sqrt(0.95 * 0.05 / REPETITIONS)
Mean = Callable[..., tuple[float, float]]
MEANS: dict[str, Mean] = {"mean of ratios": mean_of_ratios, "ratio of means": ratio_of_means}


def test_both_means_of_two_batches_are_those_by_hand() -> None:
    above, below = torch.tensor([2.0, 12.0]), torch.tensor([1.0, 3.0])
    # 2 and 4, whose standard error is half their distance; so it is when one of two is left out
    assert mean_of_ratios(above, below) == pytest.approx((3, 1))
    assert ratio_of_means(above, below) == pytest.approx((3.5, 1))


@pytest.mark.parametrize("mean", MEANS.values(), ids=MEANS)
def test_batches_of_one_ratio_have_that_and_no_error(mean: Mean) -> None:
    below = torch.tensor([1.0, 2.0, 40.0], dtype=torch.float64)
    assert mean(3 * below, below) == pytest.approx((3, 0), abs=1e-14)


@pytest.mark.parametrize("mean", MEANS.values(), ids=MEANS)
def test_of_one_batch_the_error_is_unknown_unless_it_is_all_that_there_is(mean: Mean) -> None:
    one = torch.ones(1)
    assert math.isnan(mean(one, one)[1])
    assert mean(one, one, share=1.0) == (1, 0)


def covered(mean: Mean, drawn: list[tuple[Tensor, Tensor]], truth: float, share: float) -> float:
    """How often intervals of 95 % by Student's t hold the truth."""
    hits = 0
    for above, below in drawn:
        value, error = mean(above, below, share=share)
        hits += abs(value - truth) <= stats.t.ppf(0.975, len(above) - 1) * error
    return hits / len(drawn)


def population(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Gradients' squares about 1, and ratios about 2 that do not depend on them."""
    below = 0.5 + torch.rand(count, dtype=torch.float64, generator=generator)
    ratios = 2 + torch.randn(count, dtype=torch.float64, generator=generator)
    return ratios * below, below


@pytest.mark.parametrize("mean", MEANS.values(), ids=MEANS)
def test_errors_cover_draws_from_infinitely_many_batches(mean: Mean) -> None:
    generator = torch.Generator().manual_seed(1)
    drawn = [population(24, generator) for _ in range(REPETITIONS)]
    # both means of this population are 2
    assert covered(mean, drawn, 2.0, 0.0) == pytest.approx(0.95, abs=WITHIN)


@pytest.mark.parametrize("mean", MEANS.values(), ids=MEANS)
def test_errors_cover_some_of_finitely_many_batches_which_without_their_share_are_too_many(
    mean: Mean,
) -> None:
    generator = torch.Generator().manual_seed(2)
    above, below = population(32, generator)
    truth = mean(above, below)[0]
    chosen = [torch.randperm(32, generator=generator)[:24] for _ in range(REPETITIONS)]
    drawn = [(above[which], below[which]) for which in chosen]
    assert covered(mean, drawn, truth, 24 / 32) == pytest.approx(0.95, abs=WITHIN)
    # twice as wide as they need be: of a normal error all but one in ten thousand
    assert covered(mean, drawn, truth, 0.0) > 0.95 + WITHIN


def test_the_jackknife_covers_better_than_the_delta_method_where_few_gradients_are_long() -> None:
    generator = torch.Generator().manual_seed(3)
    spread, drawn = 0.7, []
    for _ in range(REPETITIONS):
        below = (spread * torch.randn(24, dtype=torch.float64, generator=generator)).exp()
        drawn.append((below.square(), below))
    # of c with a normal logarithm: E c^2 / E c = exp(2 s^2) / exp(s^2 / 2)
    truth = math.exp(1.5 * spread**2)

    def by_delta(above: Tensor, below: Tensor, *, share: float) -> tuple[float, float]:
        ratio = float(above.sum() / below.sum())
        error = float((above - ratio * below).std() / below.mean()) / math.sqrt(len(above))
        return ratio, error * math.sqrt(1 - share)

    jackknife, delta = (covered(mean, drawn, truth, 0.0) for mean in (ratio_of_means, by_delta))
    # two in a hundred of the same draws, of which each that one alone covers counts once; and
    # neither reaches 95 %: where few gradients carry the mean, few batches do not tell how far
    assert delta + 0.02 < jackknife < 0.95 - WITHIN
