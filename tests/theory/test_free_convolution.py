"""Sums in free position: closed forms, with and without atoms, and rotated matrices."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lightning_hessian.theory import DiscreteMeasure, FreeSum, WishartPlusWigner

SIGNS = DiscreteMeasure.of([-1.0, 1.0])


def of_jacobi(diagonal: list[float], beside: list[float]) -> DiscreteMeasure:
    """Gauss quadrature of the law with this tridiagonal matrix."""
    values, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1))
    return DiscreteMeasure.of(values, vectors[0] ** 2)


def semicircle(variance: float, size: int = 120) -> DiscreteMeasure:
    return of_jacobi([0.0] * size, [math.sqrt(variance)] * (size - 1))


def projection(trace: float) -> DiscreteMeasure:
    return DiscreteMeasure.of([0.0, 1.0], [1 - trace, trace])


@pytest.mark.parametrize("x", [-1.9, -1.0, 0.0, 0.5, 1.99])
def test_two_signs_are_the_arcsine_law(x: float) -> None:
    twice = FreeSum(SIGNS, SIGNS)
    assert twice.share_below(x) == pytest.approx(0.5 + math.asin(x / 2) / math.pi, abs=1e-10)
    (density,) = twice.density([x], height=1e-9)
    assert density == pytest.approx(1 / (math.pi * math.sqrt(4 - x * x)), rel=1e-6)


@pytest.mark.parametrize("trace", [0.3, 0.7])
def test_two_projections_keep_their_atoms(trace: float) -> None:
    twice = FreeSum(projection(trace), projection(trace))
    nothing, both = max(0.0, 1 - 2 * trace), max(0.0, 2 * trace - 1)
    assert [twice.atom_at(x) for x in (0.0, 0.5, 2.0)] == pytest.approx([nothing, 0, both])
    width = 2 * math.sqrt(trace * (1 - trace))
    for x in (-0.1, 1 - width - 1e-3, 1 + width + 1e-3, 2.1):
        wanted = nothing * (x > 0) + (1 - nothing - both) * (x > 1) + both * (x > 2)
        assert twice.share_below(x) == pytest.approx(wanted, abs=1e-6)
    # strictly below an atom
    assert twice.share_below(0.0) == pytest.approx(0, abs=1e-6)
    assert twice.share_below(2.0) == pytest.approx(1 - both, abs=1e-6)
    x = np.linspace(1 - 0.9 * width, 1 + 0.9 * width, 5)
    wanted_density = np.sqrt(4 * trace * (1 - trace) - (x - 1) ** 2) / (math.pi * x * (2 - x))
    np.testing.assert_allclose(twice.density(x, height=1e-9), wanted_density, rtol=1e-6)


def test_variances_of_semicircles_add() -> None:
    both = FreeSum(semicircle(0.5), semicircle(1.5))
    assert (both.mean, both.variance) == pytest.approx((0, 2), abs=1e-12)
    for x in (-2.5, -1.0, 0.3):
        t = x / math.sqrt(8)
        wanted = 0.5 + (t * math.sqrt(1 - t * t) + math.asin(t)) / math.pi
        assert both.share_below(x) == pytest.approx(wanted, abs=1e-8)


@pytest.mark.parametrize(("ratio", "energy"), [(0.25, 0.1), (0.5, 0.02), (0.75, 0.5)])
def test_wishart_and_semicircle_are_the_closed_form(ratio: float, energy: float) -> None:
    size = 120
    wishart = of_jacobi([1.0] + [1 + ratio] * (size - 1), [math.sqrt(ratio)] * (size - 1))
    found = FreeSum(wishart, semicircle(2 * energy)).share_below(0.0)
    wanted = WishartPlusWigner(energy=energy, ratio=ratio).index
    assert found == pytest.approx(wanted, abs=1e-8)


def test_a_damped_iteration_would_get_this_one_wrong() -> None:
    """Atoms and a wide gap: of the share, .365, iterating near the axis makes .445."""
    first = DiscreteMeasure.of([0.0, 1.0, 4.0], [0.6, 0.3, 0.1])
    second = DiscreteMeasure.of([-0.5, 0.5])
    generator = np.random.default_rng(0)
    size = 400
    rotation = np.linalg.qr(generator.standard_normal((size, size)))[0]
    ones = np.repeat([0.0, 1.0, 4.0], [240, 120, 40])
    others = np.repeat([-0.5, 0.5], 200)
    both = np.diag(ones) + rotation * others @ rotation.T
    share = np.mean(np.linalg.eigvalsh(both) < 0)
    # rotated matrices are rigid: a few eigenvalues
    assert FreeSum(first, second).share_below(0.0) == pytest.approx(share, abs=4 / size)


def test_a_sum_with_a_number_is_a_shift() -> None:
    measure = DiscreteMeasure.of([-1.0, 0.0, 2.0])
    shifted = FreeSum(measure, DiscreteMeasure.of([0.5]))
    assert shifted.share_below(0.0) == pytest.approx(1 / 3, abs=1e-8)
    assert shifted.atom_at(0.5) == pytest.approx(1 / 3)
    assert shifted.share_below(0.5) == pytest.approx(1 / 3, abs=1e-8)


def test_in_the_middle_of_a_gap_half_is_below() -> None:
    """Where the one part's ``G`` vanishes the other's is asked at infinity."""
    ends = DiscreteMeasure.of([0.05, 0.2, 3.05, 3.2])
    assert FreeSum(ends, DiscreteMeasure.of([-0.1, 0.1])).share_below(1.625) == pytest.approx(0.5)


def test_what_is_no_measure_is_refused() -> None:
    with pytest.raises(ValueError, match=r"vectors of one length, got shapes \(2,\) and \(1,\)"):
        DiscreteMeasure(np.zeros(2), np.ones(1))
    with pytest.raises(ValueError, match="`values` must be finite and `weights` not negative"):
        DiscreteMeasure(np.array([math.nan]), np.ones(1))
    with pytest.raises(ValueError, match=r"`weights` must add up to 1, got 0\.5"):
        DiscreteMeasure(np.zeros(1), np.array([0.5]))
    with pytest.raises(ValueError, match="`height` must be positive, got 0"):
        FreeSum(SIGNS, SIGNS).density([0.0], height=0.0)
