"""The random matrices' spectra: against quadrature of their density, and drawn matrices."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lightning_hessian.theory import RefinedRelu, WishartPlusWigner

Model = WishartPlusWigner | RefinedRelu
MODELS: list[Model] = [
    WishartPlusWigner(energy=0.1, ratio=0.25),
    WishartPlusWigner(energy=1.0, ratio=0.75, scale=2.5),
    WishartPlusWigner(energy=0.02, ratio=0.5),
    WishartPlusWigner(energy=0.02, ratio=1.0),
    WishartPlusWigner(energy=0.3, ratio=1.7, scale=0.1),
    RefinedRelu(energy=2.0, ratio=0.25),
    RefinedRelu(energy=0.25, ratio=0.5, scale=3.0),
    RefinedRelu(energy=20.0, ratio=1 / 16),
]


def integral(model: Model, low: float, high: float, power: int = 0) -> float:
    """Of ``x^power rho``, in a variable that takes the square roots at both edges away."""
    nodes, weights = np.polynomial.legendre.leggauss(120)
    angle = math.pi / 2 * (nodes + 1)
    middle, half = (low + high) / 2, (high - low) / 2
    x = middle - half * np.cos(angle)
    return float(weights @ (model.density(x) * x**power * half * np.sin(angle))) * math.pi / 2


@pytest.mark.parametrize("model", MODELS)
def test_density_edges_and_moments_belong_together(model: Model) -> None:
    low, high = model.edges
    inside = 1e-9 * (high - low)
    assert model.density([low - inside, high + inside]) == pytest.approx([0, 0], abs=1e-9)
    assert (model.density([low + inside, high - inside]) > 0).all()
    assert integral(model, low, high) == pytest.approx(1, abs=1e-10)
    assert integral(model, low, high, 1) == pytest.approx(model.scale, rel=1e-10)
    phi, eps = model.ratio, model.energy
    residual = 2 * eps if isinstance(model, WishartPlusWigner) else eps * phi / 2
    wanted = model.scale**2 * (1 + phi + residual)
    assert integral(model, low, high, 2) == pytest.approx(wanted, rel=1e-10)


@pytest.mark.parametrize("model", MODELS)
def test_the_index_is_the_density_below_zero(model: Model) -> None:
    low, _ = model.edges
    assert low < 0
    # not smooth at zero, but the edge's square root is all that this quadrature cannot take
    assert model.index == pytest.approx(integral_to_zero(model, low), abs=1e-10)


def integral_to_zero(model: Model, low: float) -> float:
    nodes, weights = np.polynomial.legendre.leggauss(120)
    s = (nodes + 1) / 2
    return float(weights @ (model.density(low * (1 - s * s)) * 2 * s * -low)) / 2


@pytest.mark.parametrize("kind", [WishartPlusWigner, RefinedRelu])
@pytest.mark.parametrize("ratio", [1 / 16, 0.25, 0.5, 0.75, 0.9])
def test_at_the_critical_energy_the_lower_edge_is_zero(kind: type[Model], ratio: float) -> None:
    critical = kind(energy=1.0, ratio=ratio).critical_energy
    at, above, below = (kind(energy=critical * k, ratio=ratio) for k in (1, 1 + 1e-3, 1 - 1e-3))
    assert at.edges[0] == pytest.approx(0, abs=1e-10)
    assert below.index == 0 < above.index
    assert below.edges[0] > 0 > above.edges[0]


def test_the_papers_form_of_critical_energies_is_ours_without_its_cancellation() -> None:
    for phi in (0.1, 0.3, 0.6):
        printed = (1 - 20 * phi - 8 * phi**2 + (1 + 8 * phi) ** 1.5) / 16
        found = WishartPlusWigner(energy=1.0, ratio=phi).critical_energy
        assert found == pytest.approx(printed, abs=1e-14)
        chi = 1 + 16 * phi - 8 * phi**2
        printed = (27 - 18 * chi - chi**2 + 8 * chi**1.5) / (32 * phi * (1 - phi) ** 3)
        refined = RefinedRelu(energy=1.0, ratio=phi).critical_energy
        assert refined == pytest.approx(printed, rel=1e-10)
    near = WishartPlusWigner(energy=1.0, ratio=1 - 1e-6).critical_energy
    assert near == pytest.approx(2 / 27 * 1e-18, rel=1e-5)
    assert WishartPlusWigner(energy=1.0, ratio=1.2).critical_energy == 0


@pytest.mark.parametrize("ratio", [1 / 16, 0.25, 0.5, 0.75])
def test_near_the_critical_energy_the_index_follows_its_power(ratio: float) -> None:
    at = WishartPlusWigner(energy=1.0, ratio=ratio)
    ratios = [
        WishartPlusWigner(energy=at.critical_energy * (1 + x), ratio=ratio).index
        / (at.index_coefficient * x**1.5)
        for x in (1e-2, 1e-4)
    ]
    # the next term is of relative order x
    assert ratios[1] == pytest.approx(1, abs=2e-4)
    assert 50 < (1 - ratios[0]) / (1 - ratios[1]) < 150


def test_drawn_matrices_have_these_indices_and_moments() -> None:
    generator = np.random.default_rng(1)
    size, phi, eps = 400, 0.5, 0.2
    shares = []
    for _ in range(12):
        x = generator.standard_normal((size, round(size / phi)))
        noise = generator.standard_normal((size, size)) * math.sqrt(2 * eps / (2 * size))
        shares.append(np.mean(np.linalg.eigvalsh(x @ x.T * phi / size + noise + noise.T) < 0))
    error = np.std(shares, ddof=1) / math.sqrt(len(shares))
    model = WishartPlusWigner(energy=eps, ratio=phi)
    # the mean of finite matrices is off by something of the order of 1 / size
    assert abs(np.mean(shares) - model.index) < 3 * error + 1 / size


@pytest.mark.slow
def test_drawn_product_matrices_have_the_refined_index() -> None:
    """``H12 = I_n (x) E X^T / m`` over half of the samples, as in section 6."""
    generator = np.random.default_rng(2)
    n, phi, eps = 24, 0.5, 0.25
    m = round(2 * n / phi)
    size = 2 * n * n
    shares = []
    for _ in range(3):
        errors = generator.standard_normal((n, m)) * math.sqrt(2 * eps)
        inputs = generator.standard_normal((n, m))
        block = np.zeros((n * n, n * n))
        for unit in range(n):
            on = generator.permutation(m)[: m // 2]
            place = slice(unit * n, (unit + 1) * n)
            block[place, place] = errors[:, on] @ inputs[:, on].T / m
        x = generator.standard_normal((size, round(size / phi)))
        whole = x @ x.T * phi / size
        # in free position: the Wishart matrix is invariant under rotations
        whole[: n * n, n * n :] += block
        whole[n * n :, : n * n] += block.T
        shares.append(np.mean(np.linalg.eigvalsh(whole) < 0))
    error = np.std(shares, ddof=1) / math.sqrt(len(shares))
    found = RefinedRelu(energy=eps, ratio=phi).index
    assert abs(np.mean(shares) - found) < 3 * error + 2 / n**2


def test_values_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="`energy` must be positive and finite, got 0"):
        WishartPlusWigner(energy=0.0, ratio=0.5)
    with pytest.raises(ValueError, match="`scale` must be positive and finite, got -1"):
        RefinedRelu(energy=1.0, ratio=0.5, scale=-1.0)
    with pytest.raises(ValueError, match="`ratio` must be at most 1 in the refined model, got 2"):
        RefinedRelu(energy=1.0, ratio=2.0)
    assert math.isnan(WishartPlusWigner(energy=1.0, ratio=1.0).index_coefficient)
