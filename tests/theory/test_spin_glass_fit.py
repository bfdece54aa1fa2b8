"""A spin glass over losses: the shift and scale that made them come back, and what they tell."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_hessian.theory import EnergyFit, fit_energies, index_share

LOSSES = np.linspace(0.1, 0.9, 24)


def shares_of(
    shift: float, scale: float, depth: int, noise: float = 0.0, seed: int = 0
) -> np.ndarray:
    generator = np.random.default_rng(seed)
    shares = index_share((LOSSES - shift) / scale, depth)
    return np.clip(shares + noise * generator.standard_normal(len(LOSSES)), 0, 1)


@pytest.mark.parametrize("depth", [2, 3, 10])
@pytest.mark.parametrize(("shift", "scale"), [(0.8, 0.25), (0.5, 1.0), (2.0, 1.2)])
def test_shift_and_scale_come_back(depth: int, shift: float, scale: float) -> None:
    fit = fit_energies(LOSSES, shares_of(shift, scale, depth), depth)
    assert (fit.shift, fit.scale) == pytest.approx((shift, scale), rel=1e-6)
    assert fit.rms < 1e-8
    assert fit.tells_from_line
    assert fit.num_points == 24
    np.testing.assert_allclose(fit.energies(LOSSES), (LOSSES - shift) / scale, rtol=1e-5)


@pytest.mark.slow
def test_errors_cover_what_noise_does() -> None:
    """Of 60 draws nine in ten are within two standard errors, as of 95 % less three deviations."""
    fits = [fit_energies(LOSSES, shares_of(0.8, 0.4, 3, 0.02, seed), 3) for seed in range(60)]
    for found in (
        [(fit.shift - 0.8) / fit.shift_standard_error for fit in fits],
        [(fit.scale - 0.4) / fit.scale_standard_error for fit in fits],
    ):
        assert np.mean(np.abs(found) < 2) > 0.86


def test_no_depth_can_be_told_from_another() -> None:
    shares = shares_of(0.8, 0.4, 3, 0.02)
    three, ten = (fit_energies(LOSSES, shares, depth) for depth in (3, 10))
    assert three.rms == pytest.approx(ten.rms, rel=1e-9)
    assert three.shift == pytest.approx(ten.shift, rel=1e-9)
    assert three.scale > ten.scale


def test_points_on_a_straight_line_are_said_to_be_nearer_to_one() -> None:
    fit = fit_energies(LOSSES, 0.1 + 0.3 * LOSSES, 3)
    assert fit.line_rms < 1e-12 < fit.rms
    assert not fit.tells_from_line
    assert "no nearer than a straight line" in str(fit)
    assert str(fit).startswith(f"a fit of shift {fit.shift:.4g} ± ")
    bent = fit_energies(LOSSES, shares_of(0.8, 0.25, 3), 3)
    assert ", nearer than a straight line" in str(bent)
    assert isinstance(bent, EnergyFit)


def test_refuses_what_has_no_such_law() -> None:
    with pytest.raises(ValueError, match=r"at least 5, got shapes \(4,\) and \(4,\)"):
        fit_energies(LOSSES[:4], LOSSES[:4], 3)
    with pytest.raises(ValueError, match="`losses` must be finite and `shares` from 0 to 1"):
        fit_energies(LOSSES, 2 * LOSSES, 3)
    for shares in (np.zeros(24), LOSSES[::-1]):
        with pytest.raises(ValueError, match="`shares` must rise with `losses`"):
            fit_energies(LOSSES, shares, 3)
    with pytest.raises(ValueError, match="`depth` must be at least 2, got 1"):
        fit_energies(LOSSES, LOSSES, 1)
