"""What the study of index and energy measures and concludes, where the answer is known."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from examples.band_claims import Floats, Interval, bootstrap
from examples.index_claims import (
    PowerLaw,
    power_law,
    rank_correlation,
    theory_at,
)
from examples.index_figures import Gathered, index_figure, pairs
from examples.index_minimisers import Minimisers, minimiser_energy, minimisers
from examples.index_points import IndexPoint, distinct, point
from examples.index_problem import Task
from examples.index_saddles import embedded_saddles, narrow_minimum, widened
from examples.index_searches import descended, search, small_gradients, start
from examples.index_tables import how_many, law_table, minimum_table, outcomes_line
from lightning_hessian.studies import compare_random_matrices, gauss_newton_split
from lightning_hessian.theory import WishartPlusWigner

TASK = Task.drawn(3, 9, 0)
"""Of 18 parameters, phi = 2/3."""
DECAY = 0.01
GRID = 0.004
"""Relative distance of the exponents that are tried."""


def weights_of(seed: int, size: int = 18) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, generator=generator, dtype=torch.float64) / 2


def of(energy: float = 0.2, spectrum: tuple[float, ...] = (-1.0, 1.0, 2.0)) -> IndexPoint:
    return IndexPoint(
        source="searched",
        decay=DECAY,
        energy=energy,
        gradient_norm=1e-10,
        gradient_left=0.0,
        norm=1.0,
        spectrum=np.array(spectrum),
    )


# the task


def test_energy_and_ratio_are_those_that_the_packages_theory_counts() -> None:
    weights = weights_of(0)
    with TASK.opened(weights) as loss:
        split = gauss_newton_split(loss, generator=torch.Generator().manual_seed(0))
        loss_here = float(loss.gradient().loss)
    models = compare_random_matrices(split).models
    (nominal,) = (model for model in models if model.choice == "nominal")
    assert float(TASK.energy(weights)) == pytest.approx(nominal.energy, rel=1e-12)
    assert TASK.ratio == pytest.approx(nominal.ratio, rel=1e-12)
    assert float(TASK.energy(weights)) == pytest.approx(loss_here / 2, rel=1e-12)


def test_derivatives_are_those_of_differences() -> None:
    weights, h = weights_of(1), 1e-5

    def loss_at(place: torch.Tensor) -> float:
        return float(2 * TASK.energy(place) + DECAY / 2 * place.square().sum())

    gradient, hessian = TASK.derivatives(weights, DECAY)
    for row in (0, 7, 17):
        step = torch.zeros_like(weights)
        step[row] = h
        # errors of second order in h, and roundings over h
        slope = (loss_at(weights + step) - loss_at(weights - step)) / (2 * h)
        assert float(gradient[row]) == pytest.approx(slope, abs=1e-8)
        up, down = (TASK.derivatives(weights + s * step, DECAY)[0] for s in (1, -1))
        torch.testing.assert_close(hessian[row], (up - down) / (2 * h), atol=1e-8, rtol=0)


# exact saddles


def moments() -> torch.Tensor:
    """Singular values of the mean product of error and input where the outputs are zero."""
    moment = -2 / TASK.size * TASK.targets.T @ TASK.inputs / len(TASK.inputs)
    return torch.linalg.svdvals(moment)


def test_at_weights_of_zero_half_of_all_is_negative_and_in_pairs() -> None:
    found = point(TASK, torch.zeros(18, dtype=torch.float64), decay=0.0, source="embedded")
    assert found.index == 0.5
    assert found.is_critical
    assert found.energy == pytest.approx(float(TASK.targets.square().mean()) / 2, rel=1e-14)
    pairs_of = torch.cat([moments(), -moments()]).repeat(3).sort().values
    assert found.spectrum == pytest.approx(pairs_of.numpy(), abs=1e-14)


@pytest.mark.parametrize("width", [1, 2])
def test_dead_units_add_pairs_around_the_decay_to_the_spectrum_of_a_narrower_minimum(
    width: int,
) -> None:
    narrow = narrow_minimum(TASK, width, decay=DECAY, seed=0)
    assert narrow is not None
    wide = widened(TASK, narrow)
    gradient, hessian = TASK.derivatives(wide, DECAY)
    # of the terms, which are of order one, roundings are left
    assert float(gradient.norm()) < 1e-12
    into, out = narrow.split([3 * width, 3 * width])
    outputs = torch.tanh(TASK.inputs @ into.view(width, 3).T) @ out.view(3, width).T
    moment = 2 / 3 * (outputs - TASK.targets).T @ TASK.inputs / len(TASK.inputs)
    sigma = torch.linalg.svdvals(moment)
    own = torch.linalg.eigvalsh(TASK.derivatives(narrow, DECAY)[1])
    dead = torch.cat([DECAY + sigma, DECAY - sigma]).repeat(3 - width)
    expected = torch.cat([own, dead]).sort().values
    torch.testing.assert_close(torch.linalg.eigvalsh(hessian), expected, atol=1e-11, rtol=0)
    assert float(TASK.energy(wide)) == pytest.approx(float(TASK.energy(narrow)), rel=1e-14)


def test_the_ladder_has_a_saddle_of_every_width_and_energies_that_fall_with_the_index() -> None:
    found = distinct(embedded_saddles(TASK, decay=DECAY / 10, seeds=2))
    assert all(each.is_critical for each in found)
    indices = [each.index for each in found]
    # zero weights, one unit and two: three each for dead units, as none is lifted by the decay
    assert {round(18 * index) for index in indices} == {3, 6, 9}
    assert indices == sorted(indices)


# which points are the same, and which are critical


def test_permuted_units_and_their_signs_are_one_point() -> None:
    weights = widened(TASK, weights_of(3, 12))
    into, out = (part.view(3, 3) for part in weights.split([9, 9]))
    order, signs = torch.tensor([2, 0, 1]), torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64)
    copy = torch.cat([(into[order] * signs[:, None]).flatten(), (out[:, order] * signs).flatten()])
    both = [point(TASK, each, decay=DECAY, source="descent") for each in (weights, copy)]
    assert not torch.equal(copy, weights)
    assert len(distinct(both)) == 1
    other = point(TASK, weights_of(4), decay=DECAY, source="descent")
    assert len(distinct([*both, other])) == 2


def test_points_of_one_energy_and_other_curvature_are_two() -> None:
    same = of(0.2 + 5e-9, (-1.0, 1.0, 2.0 + 1e-5))
    assert len(distinct([of(), same, of(0.2, (-1.0, 1.0, 2.001)), of(0.2 + 2e-8)])) == 3


@pytest.mark.parametrize(
    ("norm", "left", "expected"),
    [
        (1e-9, 0.01, (True, True, False)),
        (1e-9, math.nan, (True, True, False)),
        (1e-9, 0.06, (False, True, False)),
        (9e-4, 0.01, (False, True, False)),
        (9e-4, 0.51, (False, True, True)),
        (2e-3, 0.51, (False, False, False)),
    ],
)
def test_a_fake_passes_by_its_gradient_and_keeps_it(
    norm: float, left: float, expected: tuple[bool, bool, bool]
) -> None:
    found = replace(of(), gradient_norm=norm, gradient_left=left)
    assert (found.is_critical, found.passes, found.is_fake) == expected


def test_the_index_counts_what_is_negative_beyond_a_millionth_of_the_largest() -> None:
    assert of(spectrum=(-3.0, -2e-5, -0.9e-5, 10.0)).index == 0.5


# the searches


def test_a_start_is_so_many_steps_of_gradient_descent() -> None:
    generator = torch.Generator().manual_seed(5)
    weights = torch.randn(18, generator=generator, dtype=torch.float64) / 2
    target = int(torch.randint(0, 7, (1,), generator=generator))
    for _ in range(int(1000 ** torch.rand(1, generator=generator))):
        weights = weights - 0.1 * TASK.derivatives(weights, DECAY)[0]
    found = start(TASK, 5, DECAY)
    assert found.target == target
    torch.testing.assert_close(found.weights, weights, atol=1e-10, rtol=0)


def test_searched_points_are_saddles_of_vanishing_gradient() -> None:
    found = search(TASK, decay=DECAY, seeds=4, max_hvps=800)
    assert sum(found.outcomes.values()) == len(found.starts) == 4
    assert len(found.ends) == found.outcomes["converged"] >= 2
    targets = {start(TASK, seed, DECAY).target for seed in range(4)}
    for each in found.ends:
        assert each.is_critical
        assert round(18 * each.index) in targets
    # on descents a part of the gradient is left
    assert all(not each.is_critical for each in found.starts)


def test_a_descent_of_the_gradients_norm_comes_back_to_a_saddle_that_it_starts_beside() -> None:
    narrow = narrow_minimum(TASK, 1, decay=DECAY, seed=0)
    assert narrow is not None
    saddle = widened(TASK, narrow)
    found = descended(TASK, saddle + 1e-3 * weights_of(1), decay=DECAY, steps=30)
    assert float(TASK.derivatives(found, DECAY)[0].norm()) < 1e-12
    assert float((found - saddle).norm()) < 1e-9


def test_without_decay_most_descents_of_the_gradients_norm_end_in_fakes() -> None:
    found = small_gradients(Task.drawn(6, 24, 3), decay=0.0, seeds=4, steps=150)
    # 85 of 100 do
    assert sum(each.is_fake for each in found) >= 2


def test_a_descent_of_the_gradients_norm_never_makes_it_longer() -> None:
    few, more = (small_gradients(TASK, decay=0.0, seeds=3, steps=steps) for steps in (3, 20))
    for before, after in zip(few, more, strict=True):
        assert after.gradient_norm < before.gradient_norm


def test_where_the_decay_exceeds_every_moment_the_minimum_is_at_zero() -> None:
    found = minimisers(3, 9, decay=1.5 * float(moments()[0]), tasks=1, max_hvps=2000)
    assert found.outcomes == ("converged",)
    assert found.mean == pytest.approx(float(TASK.targets.square().mean()) / 2, rel=1e-9)
    assert math.isnan(found.standard_error)


# correlations and power laws


def law_points(exponent: float, count: int, noise: float, seed: int) -> Floats:
    """Energies above 0.1 by a power of the index, of multiples of 1/72 up to a third."""
    generator = np.random.default_rng(seed)
    indices = generator.integers(1, 25, count) / 72
    energies = 0.1 + 0.4 * indices ** (1 / exponent) + noise * generator.standard_normal(count)
    return np.stack([energies, indices], axis=1)


def test_a_correlation_of_ranks_is_spearmans() -> None:
    generator = np.random.default_rng(0)
    drawn = generator.standard_normal((40, 2))
    ranks = drawn.argsort(axis=0).argsort(axis=0)
    # without ties: 1 - 6 sum d^2 / (n (n^2 - 1))
    apart = float(((ranks[:, 0] - ranks[:, 1]) ** 2).sum())
    assert float(rank_correlation(drawn)) == pytest.approx(1 - 6 * apart / (40 * (40**2 - 1)))
    found = bootstrap(np.stack([drawn[:, 0], np.exp(drawn[:, 0])], axis=1), rank_correlation)
    assert (found.low, found.high) == pytest.approx((1, 1))


@pytest.mark.parametrize("exponent", [0.8, 1.5, 2.5])
def test_points_on_a_power_law_have_its_exponent_and_its_critical_energy(exponent: float) -> None:
    law = power_law(law_points(exponent, 100, 0.0, 0))
    assert law.exponent.value == pytest.approx(exponent, rel=GRID)
    # off by as much as the exponents that are tried are apart
    assert law.critical_energy.value == pytest.approx(0.1, abs=2e-3)
    assert law.residual < 1e-3
    assert law.energy(np.array([0.0, 0.3])) == pytest.approx(
        [0.1, 0.1 + 0.4 * 0.3 ** (1 / exponent)], abs=2e-3
    )


def test_points_of_the_theorys_own_curve_have_the_exponent_of_the_paper() -> None:
    # up to 2 % above the critical energy; there the curve's own exponent is lower by some 0.02
    critical = WishartPlusWigner(energy=1, ratio=0.25).critical_energy
    energies = critical * (1 + np.linspace(5e-4, 0.02, 200))
    indices = [WishartPlusWigner(energy=energy, ratio=0.25).index for energy in energies]
    noise = 5e-4 * critical * np.random.default_rng(0).standard_normal(200)
    law = power_law(np.stack([energies + noise, indices], axis=1))
    assert law.exponent.low < 1.5 < law.exponent.high
    assert law.exponent.high - law.exponent.low < 0.3
    assert law.critical_energy.low < critical < law.critical_energy.high


def test_far_above_its_critical_energy_the_theory_has_no_such_exponent() -> None:
    law = power_law(theory_at(np.arange(1, 11) / 72, 0.5))
    # the slope of the closed form between both ends, log against log, is 0.84 already
    critical = WishartPlusWigner(energy=1.0, ratio=0.5).critical_energy
    low, high = theory_at([1 / 72, 10 / 72], 0.5)[:, 0] - critical
    slope = math.log(10) / math.log(high / low)
    assert slope < 0.9
    assert law.exponent.value < slope


def test_energies_at_indices_are_those_of_the_theory() -> None:
    found = theory_at([0.0, 0.05, 0.3], 0.5)
    indices = [WishartPlusWigner(energy=energy, ratio=0.5).index for energy, _ in found]
    # between energies 0.7 % apart it is a straight line
    assert indices == pytest.approx([0.0, 0.05, 0.3], abs=1e-5)
    critical = WishartPlusWigner(energy=1.0, ratio=0.5).critical_energy
    assert found[0, 0] == pytest.approx(critical, rel=0.007)


def test_to_keep_small_indices_alone_leaves_the_exponent_as_it_is() -> None:
    noisy = law_points(1.5, 1000, 0.02, 0)
    law = power_law(noisy[noisy[:, 1] < 0.15])
    assert law.exponent.low < 1.5 < law.exponent.high
    # the scatter is in the energy; of 400 points it is known to 3.5 %
    assert law.residual == pytest.approx(0.02, rel=0.1)


def test_with_the_exponent_given_the_fit_is_that_of_a_straight_line() -> None:
    noisy = law_points(1.0, 200, 0.01, 2)
    law = power_law(noisy, exponents=np.array([1.0]))
    x = noisy[:, 1]
    slope, start_at = np.polyfit(x, noisy[:, 0], 1)
    assert law.slope == pytest.approx(slope, rel=1e-9)
    assert law.critical_energy.value == pytest.approx(start_at, rel=1e-9)
    # the intercept's standard error; percentiles of 4,000 draws are off by some 4 %, and the
    # bootstrap over 200 points by as much
    error = 0.01 * math.sqrt(1 / 200 + x.mean() ** 2 / (200 * x.var()))
    assert law.critical_energy.high - law.critical_energy.low == pytest.approx(
        2 * 1.96 * error, rel=0.15
    )
    assert law.exponent == Interval(1.0, 1.0, 1.0)


def test_minima_are_no_part_of_a_power_law() -> None:
    saddles = law_points(1.5, 50, 0.005, 3)
    minima = np.stack([np.full(20, 0.02), np.zeros(20)], axis=1)
    assert power_law(np.concatenate([minima, saddles])) == power_law(saddles)


@pytest.mark.parametrize(
    ("count", "indices"), [(9, 5), (30, 2)], ids=["too few points", "too few indices"]
)
def test_too_few_saddles_are_refused(count: int, indices: int) -> None:
    few = np.stack([np.linspace(0.1, 0.2, count), np.arange(count) % indices / 72 + 0.1], axis=1)
    message = (
        rf"`pairs` must hold at least 10 saddles of 3 indices, got {count} of {indices}\. Search"
    )
    with pytest.raises(ValueError, match=message):
        power_law(few)


@pytest.mark.slow
def test_intervals_of_an_exponent_hold_it_as_often_as_they_say() -> None:
    held = 0
    for seed in range(60):
        law = power_law(law_points(1.5, 100, 0.01, seed), seed=seed)
        held += law.exponent.low <= 1.5 <= law.exponent.high
    # 57 of 60, within three standard errors of 1.7
    assert held >= 52


# what is printed and drawn


def law(exponent: tuple[float, float, float]) -> PowerLaw:
    return PowerLaw(
        exponent=Interval(*exponent),
        critical_energy=Interval(0.1, 0.05, 0.15),
        slope=0.4,
        residual=0.01,
        num_points=60,
    )


def test_three_halves_is_excluded_where_the_interval_ends_below() -> None:
    laws = {"all": law((1.2, 0.9, 1.4)), "few": law((1.6, 0.8, 3.0))}
    fixed = dict.fromkeys(laws, replace(law((1.5, 1.5, 1.5)), residual=0.02))
    lines = law_table(laws, fixed, {"theory": law((0.6, 0.5, 0.7))}).splitlines()
    assert lines[1].endswith("0.0200  excluded")
    assert lines[2].endswith("0.0200  possible")
    assert "1.20 (0.90 to 1.40)" in lines[1]
    assert lines[3].split() == ["theory", "0.60", "0.100", "0.0100"]


def test_shares_of_starts_are_said_and_whether_saddles_are_enough() -> None:
    text = outcomes_line("searches", Counter(escaped=3, converged=7), [of()] * 6)
    assert text == "searches: 10 starts, 7 converged, 3 escaped; 6 distinct critical points"
    assert how_many(499).startswith("499 distinct saddles: too few")
    assert how_many(500).startswith("500 distinct saddles: enough")


def test_minima_stand_beside_the_law_with_their_errors() -> None:
    found = Minimisers(
        ratio=0.5,
        decay=0.0,
        energies=(0.12, 0.14, 0.16),
        gradient_norms=(1e-9, 2e-3, 1e-9),
        outcomes=("converged", "escaped", "converged"),
    )
    assert found.law == minimiser_energy(0.5) == 0.125
    assert minimiser_energy(1.5) == 0
    assert found.standard_error == pytest.approx(0.02 / math.sqrt(3))
    row = minimum_table([found]).splitlines()[1]
    assert "0.1400 +- 0.0115" in row
    assert row.endswith("+12%  2e-03 (2 converged, 1 escaped)")


def test_the_figure_shows_every_kind_of_point_the_curve_and_the_fits() -> None:
    points = Gathered(
        ratio=0.5,
        searched=[of(0.2), of(0.3, (-1.0, -1.0, 2.0))],
        embedded=[of(0.25)],
        fakes=[of(0.4)],
        starts=[of(0.6)],
    )
    minima = Minimisers(
        ratio=0.5, decay=0.0, energies=(0.13,), gradient_norms=(0.0,), outcomes=("converged",)
    )
    found = law((1.0, 0.9, 1.1))
    whole, fits, energies = index_figure(points, {"all": found}, [minima]).axes
    texts = [text.get_text() for text in whole.get_legend().get_texts()]
    assert texts[:4] == [
        "on a descent: not critical (1)",
        "fake: small gradient (1)",
        "saddle, searched (2)",
        "saddle, embedded (1)",
    ]
    assert np.stack(whole.lines[2].get_data(), axis=1) == pytest.approx(pairs(points.searched))
    # drawn hollow
    assert whole.lines[1].get_markerfacecolor() == "none"
    curve = np.stack(whole.lines[4].get_data(), axis=1)
    model = WishartPlusWigner(energy=curve[-1, 0], ratio=0.5)
    assert curve[-1, 1] == pytest.approx(model.index)
    assert whole.lines[5].get_xdata()[0] == pytest.approx(model.critical_energy)
    x, y = fits.lines[1].get_data()
    assert x == pytest.approx(0.1 + 0.4 * y)
    assert energies.lines[0].get_ydata()[0] == 0.5
    assert energies.lines[1].get_ydata() == pytest.approx([0.13])
