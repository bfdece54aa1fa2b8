"""The spin glass: its complexity against integrals, its energies, its index against matrices."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import quad

from lightning_hessian.theory import complexity, index_energy, index_share, threshold_energy


@pytest.mark.parametrize("depth", [2, 3, 4, 10])
@pytest.mark.parametrize("index", [None, 0, 3])
def test_complexity_is_the_papers_with_the_integral_done_numerically(
    depth: int, index: int | None
) -> None:
    edge = threshold_energy(depth)
    for energy in (-1.2 * edge, -1.01 * edge, -edge):
        integral, _ = quad(lambda z: math.sqrt(max(z * z - edge * edge, 0)), energy, -edge)
        terms = 1 if index is None else index + 1
        wanted = (
            math.log(depth - 1) / 2
            - (depth - 2) * energy**2 / (4 * (depth - 1))
            - terms * 2 / edge**2 * integral
        )
        assert float(complexity(energy, depth, index=index)) == pytest.approx(wanted, abs=1e-8)


@pytest.mark.parametrize("index", [None, 0, 2])
def test_complexity_is_continuous_where_its_cases_meet(index: int | None) -> None:
    # the misprint of the paper would jump by 0.2 at the first for depth 3
    for place in (-threshold_energy(3), 0.0):
        below, above = complexity([place - 1e-9, place + 1e-9], 3, index=index)
        assert below == pytest.approx(above, abs=1e-8)
    assert float(complexity(0.7, 3)) == pytest.approx(math.log(2) / 2)


@pytest.mark.parametrize("depth", [3, 4, 7])
def test_at_the_energy_of_an_index_its_complexity_is_zero_and_energies_fall(depth: int) -> None:
    energies = [index_energy(k, depth) for k in range(30)]
    for k, energy in enumerate(energies):
        assert abs(float(complexity(-energy, depth, index=k))) < 1e-13
    assert all(a > b for a, b in pairwise(energies))
    # the gap closes as (k + 1)^(-2/3)
    edge = threshold_energy(depth)
    assert index_energy(10**6, depth) == pytest.approx(edge, rel=1e-4)
    assert index_energy(10**6, depth) > edge


def test_energies_of_the_table() -> None:
    """Published values of Auffinger, Ben Arous and Cerny's ``E_k`` for the pure 3-spin model."""
    assert index_energy(0, 3) == pytest.approx(1.65699836, abs=1e-8)
    assert index_energy(0, 10) == pytest.approx(2.13536380, abs=1e-8)
    assert index_energy(4, 2) == threshold_energy(2) == pytest.approx(math.sqrt(2))


def test_the_index_is_the_share_of_a_shifted_semicircle_below_zero() -> None:
    generator = np.random.default_rng(0)
    size, depth = 1000, 3
    gauss = generator.standard_normal((size, size))
    radius = 2 * math.sqrt(depth * (depth - 1))
    circle = np.linalg.eigvalsh((gauss + gauss.T) / math.sqrt(2 * size)) * radius / 2
    for energy in (-1.5, -0.8, 0.0, 0.4):
        share = np.mean(circle - depth * energy < 0)
        # eigenvalues of a matrix of this ensemble are rigid: a few places at most
        assert float(index_share(energy, depth)) == pytest.approx(share, abs=3 / size)
    edge = threshold_energy(depth)
    assert float(index_share(-edge * (1 - 1e-4), depth)) == pytest.approx(
        4 * math.sqrt(2) / (3 * math.pi) * 1e-6, rel=1e-3
    )
    np.testing.assert_array_equal(index_share([-9.0, 9.0], depth), [0, 1])


def test_what_has_no_such_model_is_refused() -> None:
    with pytest.raises(ValueError, match="`depth` must be at least 2, got 1"):
        index_share(0.0, 1)
    with pytest.raises(ValueError, match="`index` must not be negative, got -1"):
        index_energy(-1, 3)
    with pytest.raises(ValueError, match="`index` must not be negative, got -2"):
        complexity(-1.0, 3, index=-2)
