"""Orders drawn at random, and the laws that hold over them."""

from __future__ import annotations

import math

import pytest
import torch

from lightning_hessian.statistics import difference_along, simulate_orders
from lightning_hessian.studies import order_statistics
from tests.helpers.orders import POPULATIONS, differences_over_all_orders


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_difference_along_an_order_is_that_of_the_means() -> None:
    losses = torch.tensor([3.0, 1.0, 2.0, 6.0])
    expected = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(difference_along(losses), expected)
    # 6, 2, 3, 1: means 6, 4, 11/3, 3
    along = difference_along(losses, torch.tensor([3, 2, 0, 1]))
    torch.testing.assert_close(along, torch.tensor([-2.0, -1 / 3, -2 / 3], dtype=torch.float64))


def test_differences_of_several_sets_at_once_are_those_of_each() -> None:
    losses = torch.rand(2, 3, 9, generator=_seeded(), dtype=torch.float64)
    found = difference_along(losses)
    assert found.shape == (2, 3, 8)
    torch.testing.assert_close(found[1, 2], difference_along(losses[1, 2]))


def test_narrow_losses_far_from_zero_keep_their_digits() -> None:
    losses = torch.rand(200, generator=_seeded(), dtype=torch.float64)
    found, shifted = difference_along(losses), difference_along(losses + 2.0**30)
    # the shifted losses themselves are rounded at 2^-23
    torch.testing.assert_close(found, shifted, rtol=0, atol=2.0**-22)


def test_simulated_orders_visit_the_orders_evenly() -> None:
    losses = torch.tensor([1.0, 2.0, 4.0, 8.0], dtype=torch.float64)
    found = simulate_orders(losses, num_orders=4800, generator=_seeded())
    truth = differences_over_all_orders(losses).abs()
    for column in range(3):
        values, shares = truth[:, column].round(decimals=9).unique(return_counts=True)
        drawn = found[:, column].round(decimals=9)
        for value, share in zip(values, shares / 24, strict=True):
            deviation = math.sqrt(float(share * (1 - share)) / 4800)
            assert abs(float((drawn == value).double().mean() - share)) < 4 * deviation


def test_no_order_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="`num_orders` must be at least 1, got 0"):
        simulate_orders(torch.rand(4), num_orders=0, generator=_seeded())


@pytest.mark.sampled
@pytest.mark.parametrize("name", ["uniform", "lognormal"])
def test_ten_thousand_orders_agree_with_the_law_within_four_errors(name: str) -> None:
    num_orders = 10_000
    losses = POPULATIONS[name].draw(500, generator=_seeded(11))
    found = order_statistics(losses, num_orders=num_orders, generator=_seeded(1))
    error = torch.hypot(
        found.differences.orders_standard_error, found.differences.mean_abs_estimate_error
    )
    assert bool(
        ((found.differences.orders_mean_abs - found.differences.mean_abs).abs() < 4 * error).all()
    )
    orders = simulate_orders(
        losses,
        num_orders=num_orders,
        generator=_seeded(2),
        sample_sizes=found.differences.sample_sizes,
    ).square()
    error = orders.std(dim=0) / math.sqrt(num_orders)
    assert bool(((orders.mean(dim=0) - found.differences.rms.square()).abs() < 4 * error).all())


def test_a_hundred_orders_are_much_noisier_than_the_estimate() -> None:
    losses = POPULATIONS["lognormal"].draw(2000, generator=_seeded(12))
    found = order_statistics(losses, num_orders=100, generator=_seeded(1))
    assert bool(
        (
            found.differences.orders_standard_error > 20 * found.differences.mean_abs_estimate_error
        ).all()
    )
    assert found.differences.num_orders == 100


def test_one_order_tells_no_error() -> None:
    losses = torch.rand(9, generator=_seeded())
    found = order_statistics(losses, num_orders=1, generator=_seeded(1))
    assert bool(found.differences.orders_standard_error.isnan().all())
    assert len(order_statistics(losses, generator=_seeded()).differences.orders_mean_abs) == 0
