"""The bracket from directions over few samples, against every subset and dense matrices."""

from __future__ import annotations

import math
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_hessian.studies import refined_interval
from tests.helpers.dense_samples import DenseSamples, random_hessians, subsets

HESSIANS = random_hessians(8, 6)
WHOLE: Any = DenseSamples.dealt(HESSIANS, torch.arange(8), 4)
ROUNDING = 64 * torch.finfo(torch.float64).eps


def largest(matrix: Tensor) -> float:
    return float(torch.linalg.eigvalsh(matrix)[-1])


def directions(count: int, seed: int = 0) -> Tensor:
    """Near the leading eigenvectors, and not at them."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(6, count, generator=generator, dtype=torch.float64)
    return torch.linalg.qr(torch.linalg.eigh(WHOLE.mean)[1][:, -count:] + 0.1 * noise)[0]


def complement_maximum(matrix: Tensor, vectors: Tensor) -> float:
    """Largest eigenvalue on the complement of some columns."""
    rest = torch.linalg.qr(torch.cat([vectors, torch.eye(6).double()], dim=1))[0]
    inner = rest[:, vectors.shape[1] :]
    return largest(inner.T @ matrix @ inner)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_over_all_samples_the_bracket_holds_for_any_directions(count: int) -> None:
    truth = largest(WHOLE.mean)
    for seed in range(20):
        vectors = directions(count, seed)
        above = complement_maximum(WHOLE.mean, vectors)
        low, high = refined_interval(WHOLE, vectors, above=above, population=8)
        assert low <= truth <= high
        inside = largest(vectors.T @ WHOLE.mean @ vectors)
        assert low == pytest.approx(inside, rel=1e-12)
        # the bound of the literature for one vector; more of them can only be better in the middle
        if count == 1:
            residual = (WHOLE.mean @ vectors - inside * vectors).norm()
            wanted = (inside + above) / 2 + math.hypot((inside - above) / 2, float(residual))
            assert high == pytest.approx(wanted, rel=1e-12)


def test_at_eigenvectors_the_bracket_is_their_eigenvalue() -> None:
    values, vectors = torch.linalg.eigh(WHOLE.mean)
    found = refined_interval(WHOLE, vectors[:, -2:], above=float(values[-3]), population=8)
    truth = float(values[-1])
    assert found == pytest.approx((truth, truth), rel=2 * ROUNDING)


@pytest.mark.parametrize("count", [3, 5])
def test_on_average_over_subsets_both_ends_are_on_their_side(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # without the errors on top, whatever the directions: unbiasedness below, convexity above
    module = sys.modules["lightning_hessian.studies.refined_interval"]
    monkeypatch.setattr(module, "quantile", lambda _: 0.0)
    truth = largest(WHOLE.mean)
    for seed in range(5):
        vectors = directions(2, seed)
        above = complement_maximum(WHOLE.mean, vectors)
        ends = torch.tensor(
            [
                refined_interval(
                    DenseSamples.dealt(HESSIANS, chosen, 3),
                    vectors,
                    above=above,
                    population=8,
                )
                for chosen in subsets(8, count)
            ],
            dtype=torch.float64,
        )
        low, high = ends.mean(dim=0).tolist()
        assert low <= largest(vectors.T @ WHOLE.mean @ vectors) <= truth
        assert high >= largest_over_all(vectors, above) >= truth


def largest_over_all(vectors: Tensor, above: float) -> float:
    return refined_interval(WHOLE, vectors, above=above, population=8)[1]


def test_the_interval_covers_the_population() -> None:
    hessians = random_hessians(600, 8, spread=4.0)
    generator = torch.Generator().manual_seed(3)
    mean = hessians.mean(dim=0)
    truth, held, lengths = largest(mean), 0, []
    for _ in range(100):
        few = torch.randperm(600, generator=generator)[:40]
        values, vectors = torch.linalg.eigh(hessians[few].mean(dim=0))
        more = torch.randperm(600, generator=generator)[:300]
        loss: Any = DenseSamples.dealt(hessians, more, 25)
        low, high = refined_interval(loss, vectors[:, -2:], above=float(values[-3]), population=600)
        held += low <= truth <= high
        lengths.append(high - low)
    assert held >= 91
    # 4.1 standard errors of a value of 300 samples out of 600, and the bias of 40 samples
    assert sum(lengths) / 100 < 0.15 * truth


def test_fewer_than_three_batches_of_a_part_tell_nothing() -> None:
    loss: Any = DenseSamples.dealt(HESSIANS, torch.arange(6), 2)
    found = refined_interval(loss, directions(1), above=1.0, population=8)
    assert found == (-math.inf, math.inf)


def test_arguments_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="`population` must be at least the 8 samples"):
        refined_interval(WHOLE, directions(1), above=1.0, population=7)
    with pytest.raises(ValueError, match="`vectors` must be orthonormal"):
        refined_interval(WHOLE, 2 * directions(1), above=1.0)
