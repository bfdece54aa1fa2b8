"""The law of the difference over random orders, against visiting every order."""

from __future__ import annotations

import itertools
import math
import time

import pytest
import torch
from torch import Tensor

from lightning_hessian.errors import NonFiniteError, RefusedError
from lightning_hessian.statistics import SortedLosses, mean_distances
from lightning_hessian.statistics.mean_abs_difference import MIN_ORDERS
from lightning_hessian.studies import OrderStatistics, order_statistics
from lightning_hessian.studies.order_statistics import sizes_up_to
from tests.helpers.orders import POPULATIONS, differences_over_all_orders

REFERENCE = torch.tensor([0.1, 0.2, 0.4, 0.7, 2.0, 3.0], dtype=torch.float64)
EXACT = {"rtol": 1e-12, "atol": 1e-12}


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _measured(losses: Tensor, **options: int | list[int]) -> OrderStatistics:
    return order_statistics(losses, generator=_seeded(), **options)  # type: ignore[arg-type]


def _vector(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_reference_vector_gives_the_values_known_of_it() -> None:
    found = _measured(REFERENCE)
    assert found.spread.variance.value == pytest.approx(1.3746666667, abs=1e-10)
    assert found.spread.mean_absolute_deviation.value == pytest.approx(0.9555555556, abs=1e-10)
    assert found.spread.gini_mean_difference == pytest.approx(1.3466666667, abs=1e-10)
    assert found.spread.range == pytest.approx(2.9)
    mean_abs = _vector(0.6733333333, 0.4005555556, 0.2911111111, 0.2296666667, 0.1911111111)
    torch.testing.assert_close(found.differences.mean_abs, mean_abs, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    "losses",
    [
        REFERENCE,
        torch.rand(2, generator=_seeded(2), dtype=torch.float64),
        torch.randn(3, generator=_seeded(3), dtype=torch.float64),
        torch.randn(8, generator=_seeded(4), dtype=torch.float64).exp(),
        torch.randint(0, 3, (7,), generator=_seeded(5)).double(),
        torch.full((5,), 0.3, dtype=torch.float64),
        1e6 + torch.rand(6, generator=_seeded(6), dtype=torch.float64),
    ],
    ids=["reference", "two", "three", "eight", "ties", "equal", "shifted"],
)
def test_statistics_equal_those_over_all_orders(losses: Tensor) -> None:
    found = _measured(losses)
    differences = differences_over_all_orders(losses)
    # a mean of losses near 1e6 holds 10 digits of its difference to another
    tolerance = EXACT if float(losses.max()) < 1e3 else {"rtol": 0.0, "atol": 1e-8}
    assert found.differences.sample_sizes.tolist() == list(range(1, len(losses)))
    torch.testing.assert_close(
        found.differences.rms.square(), differences.square().mean(dim=0), **tolerance
    )
    torch.testing.assert_close(
        found.differences.mean_abs, differences.abs().mean(dim=0), **tolerance
    )
    torch.testing.assert_close(found.differences.path, differences[0].abs(), **tolerance)
    assert found.differences.mean_abs_estimate_error.tolist() == [0.0] * (len(losses) - 1)
    pairs = [abs(float(a - b)) for a, b in itertools.permutations(losses, 2)]
    assert found.spread.gini_mean_difference == pytest.approx(sum(pairs) / len(pairs), abs=1e-12)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_blocks_of_added_samples_equal_those_over_all_orders(size: int) -> None:
    found = _measured(REFERENCE, samples_per_step=size)
    steps = differences_over_all_orders(REFERENCE)
    added = steps.unfold(1, size, 1).sum(dim=-1).square().mean(dim=0).sqrt()
    torch.testing.assert_close(found.differences.step_rms[: len(added)], added, **EXACT)
    assert bool(found.differences.step_rms[len(added) :].isnan().all())


def test_mean_absolute_difference_lies_between_its_bounds_and_meets_them_at_the_ends() -> None:
    losses = POPULATIONS["lognormal"].draw(500, generator=_seeded(1))
    found = _measured(losses)
    assert bool((found.differences.mean_abs >= found.differences.mean_abs_lower).all())
    assert bool((found.differences.mean_abs <= found.differences.mean_abs_upper).all())
    assert float(found.differences.mean_abs[0]) == pytest.approx(
        found.spread.gini_mean_difference / 2, rel=1e-12
    )
    assert float(found.differences.mean_abs[-1]) == pytest.approx(
        found.spread.mean_absolute_deviation.value / (len(losses) - 1), rel=1e-12
    )
    distances = found.differences.mean_abs * (found.differences.sample_sizes + 1)
    # a reverse martingale: never rising, but for twice the error of a difference of estimates
    slack = (
        2 * 1.5 * found.differences.mean_abs_estimate_error * (found.differences.sample_sizes + 1)
    )
    assert bool((distances.diff() <= slack[1:] + slack[:-1]).all())


@pytest.mark.parametrize("name", ["exponential", "lognormal"])
def test_sampled_subsets_agree_with_all_of_them_within_their_error(name: str) -> None:
    losses = POPULATIONS[name].draw(19, generator=_seeded(7))
    ascending = SortedLosses(losses - losses.mean())
    for k in (7, 9, 10, 13):  # 50,388 to 92,378 subsets: too many to be visited by default
        everything = torch.tensor(list(itertools.combinations(range(19), k)))
        means = ascending.values[everything].mean(dim=1)
        inside = (ascending.values[everything] - means[:, None]).abs().sum(dim=1)
        exact = float(((ascending.distance_sum(means) - inside) / (19 - k)).mean())
        (found,) = mean_distances(ascending, [k], _seeded(k))
        assert 0 < found.error < 3e-3 * exact  # 1,724 orders, of up to two subsets each
        assert abs(found.value - exact) < 4 * found.error


@pytest.mark.parametrize("name", ["exponential", "lognormal"])
def test_stated_error_of_the_estimate_is_the_scatter_over_seeds(name: str) -> None:
    losses = POPULATIONS[name].draw(20_000, generator=_seeded(8))  # the fewest orders there are
    ascending = SortedLosses(losses - losses.mean())
    sizes, repeats = [3, 100, 4500], 24
    found = [mean_distances(ascending, sizes, _seeded(seed)) for seed in range(repeats)]
    for index in range(len(sizes)):
        scatter = torch.tensor([f[index].value for f in found]).double().std()
        stated = torch.tensor([f[index].error for f in found]).double().square().mean().sqrt()
        # chi square with 23 degrees of freedom over one with 24 * 15, four deviations
        assert float(scatter / stated) == pytest.approx(1, abs=4 / math.sqrt(2 * (repeats - 1)))
    assert MIN_ORDERS == 16


def test_estimate_error_is_small_against_the_sampling_error() -> None:
    for name in POPULATIONS:
        for count in (300, 10_000):
            found = _measured(POPULATIONS[name].draw(count, generator=_seeded(9)))
            assert bool(
                (
                    found.differences.mean_abs_estimate_error
                    < 0.15 * found.differences.mean_abs_standard_error
                ).all()
            )


def test_scaling_and_shifting_the_losses_scales_the_difference() -> None:
    losses = POPULATIONS["gamma"].draw(300, generator=_seeded(3))
    one, other = _measured(losses), _measured(5 - 3 * losses)
    for name in ("rms", "rms_standard_error", "mean_abs_lower", "mean_abs_upper", "path"):
        scaled = 3 * getattr(one.differences, name)
        torch.testing.assert_close(getattr(other.differences, name), scaled, rtol=1e-9, atol=0)
    # of losses in reverse order other subsets are drawn, and other points are joined
    error = math.sqrt(2) * 3 * one.differences.mean_abs_estimate_error
    assert bool(
        (
            (other.differences.mean_abs - 3 * one.differences.mean_abs).abs() <= 4 * error + 1e-12
        ).all()
    )
    torch.testing.assert_close(
        other.differences.mean_abs_standard_error,
        3 * one.differences.mean_abs_standard_error,
        rtol=0.02,
        atol=0,
    )


def test_same_generator_gives_the_same_numbers_and_float32_losses_are_summed_in_float64() -> None:
    losses = torch.rand(400, generator=_seeded(1))
    one, other = _measured(losses, num_orders=5), _measured(losses.double(), num_orders=5)
    assert one.differences.mean_abs.equal(other.differences.mean_abs)
    assert one.differences.orders_mean_abs.equal(other.differences.orders_mean_abs)
    assert one.differences.mean_abs.dtype == torch.float64
    assert one.spread.variance.value == pytest.approx(float(losses.double().var()), rel=1e-12)


def test_sixty_thousand_losses_take_seconds_of_a_core_at_most() -> None:
    losses = POPULATIONS["lognormal"].draw(60_000, generator=_seeded(1))
    start = time.process_time()
    _measured(losses)
    assert time.process_time() - start < 5  # 0.5 s where this was written; machines differ


@pytest.mark.parametrize(("largest", "count"), [(1, 40), (9, 40), (9, 5), (9999, 40), (60, 40)])
def test_sizes_are_distinct_and_span_all_in_even_ratios(largest: int, count: int) -> None:
    sizes = sizes_up_to(largest, count)
    assert len(sizes) == min(count, largest)
    assert sizes == sorted(set(sizes))
    assert (sizes[0], sizes[-1]) == (1, largest)
    if largest == 9999:  # from where a step is more than one sample on
        ratios = [b / a for a, b in itertools.pairwise(sizes) if a > 50]
        assert max(ratios) / min(ratios) < 1.03


def test_a_single_size_is_the_largest() -> None:
    assert sizes_up_to(99, 1) == [99]


def test_given_sizes_are_kept_in_order_but_for_those_that_are_too_large() -> None:
    assert sizes_up_to(99, [50, 1, 50, 99, 100, 10_000]) == [1, 50, 99]


@pytest.mark.parametrize("wanted", [0, -3, [], [0], [3, -1], [2.5]])
def test_sizes_that_are_no_positive_whole_numbers_are_refused(wanted: int | list[int]) -> None:
    with pytest.raises(ValueError, match="`sample_sizes` must be a whole number, at least 1"):
        sizes_up_to(99, wanted)


def test_sizes_that_are_all_too_large_are_refused() -> None:
    with pytest.raises(ValueError, match="`sample_sizes` must hold one up to 5, one less than"):
        _measured(REFERENCE, sample_sizes=[6, 100])


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_losses_are_refused(count: int) -> None:
    with pytest.raises(RefusedError, match=f"needs at least 2 samples, got {count}"):
        _measured(torch.zeros(count))


def test_losses_that_are_not_numbers_are_told() -> None:
    with pytest.raises(NonFiniteError, match="2 of 4 sample losses are NaN or infinite"):
        _measured(torch.tensor([1.0, math.nan, 2.0, math.inf]))


def test_losses_that_are_no_vector_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`losses` must be a vector, \(N,\), got \(2, 3\)"):
        _measured(torch.zeros(2, 3))


def test_sizes_of_blocks_and_numbers_of_orders_are_checked() -> None:
    with pytest.raises(ValueError, match="`samples_per_step` must be at least 1, got 0"):
        _measured(REFERENCE, samples_per_step=0)
    with pytest.raises(ValueError, match="`num_orders` must not be negative, got -1"):
        _measured(REFERENCE, num_orders=-1)


def test_two_losses_tell_no_error_but_equal_losses_tell_none() -> None:
    assert math.isnan(_measured(REFERENCE[:2]).spread.variance.standard_error)
    assert bool(_measured(REFERENCE[:3]).differences.mean_abs_standard_error.isnan().all())
    equal = _measured(torch.full((50,), 0.25))
    assert equal.differences.mean_abs_standard_error.abs().max() == 0
    assert equal.differences.rms_standard_error.abs().max() == 0


def test_error_of_the_variance_is_that_of_few_samples() -> None:
    # around their mean 3 the squares sum to 14, the fourth powers to 98
    losses = torch.tensor([1.0, 2.0, 6.0, 3.0, 3.0], dtype=torch.float64)
    found = order_statistics(losses, sample_sizes=1, generator=torch.Generator().manual_seed(0))
    assert found.spread.variance.value == pytest.approx(3.5)
    assert found.spread.variance.standard_error == pytest.approx(
        math.sqrt((98 / 5 - (2 / 4) * 3.5**2) / 5), rel=1e-12
    )
