"""Random matrices over spectra: drawn matrices of known parameters, and real minima."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.nn import functional as F

from lightning_hessian.linalg import kolmogorov_distance, wasserstein_distance
from lightning_hessian.records import (
    MatrixModel,
    NegativeMass,
)
from lightning_hessian.records.random_matrices import verdict
from lightning_hessian.studies import compare_random_matrices
from lightning_hessian.theory import FreeSum, RefinedRelu, WishartPlusWigner, quantized
from tests.helpers.splits import drawn, split_of, split_of_matrices
from tests.helpers.tanh_network import TanhNetwork
from tests.theory.test_free_convolution import projection


@pytest.mark.sampled
@pytest.mark.parametrize(("ratio", "energy", "scale"), [(0.25, 0.1, 1.0), (0.5, 0.5, 7.0)])
def test_of_drawn_matrices_the_parameters_come_back_and_all_models_fit(
    ratio: float, energy: float, scale: float
) -> None:
    first, second = drawn(160, ratio, energy, scale)
    found = compare_random_matrices(split_of_matrices(first, second, energy=energy, ratio=ratio))
    law = WishartPlusWigner(energy=energy, ratio=ratio, scale=scale)
    assert [model.choice for model in found.models] == ["nominal", "effective"]
    for model in found.models:
        # moments of rigid spectra: a few of 160 eigenvalues, of relative deviation one
        assert [model.energy, model.ratio, model.scale] == pytest.approx(
            [energy, ratio, scale], rel=0.05
        )
        assert model.index == pytest.approx(law.index, abs=2 / 160)
        assert model.share == pytest.approx(model.index, abs=2e-3)
        assert model.edges == pytest.approx(law.edges, rel=0.05)
        assert model.wasserstein < 0.03
        assert model.kolmogorov < 0.03
        assert model.verdict == "fits"
    assert found.models[0].critical_energy == pytest.approx(law.critical_energy)
    assert found.free.share.value == pytest.approx(law.index, abs=2 / 160)
    assert math.isnan(found.free.share.standard_error)
    assert (found.free.verdict, found.free.is_aligned) == ("fits", False)
    assert abs(found.free.alignment - 1) < 0.1
    assert found.notes == ()
    assert abs(found.residual_mean) < 4 * math.sqrt(2) / 160


@pytest.mark.slow
def test_another_ratio_or_energy_does_not_fit() -> None:
    first, second = drawn(120, 0.25, 0.1, 1.0)
    for energy, ratio in ((0.4, 0.25), (0.1, 0.9)):
        split = split_of_matrices(first, second, energy=energy, ratio=ratio)
        nominal, effective = compare_random_matrices(split).models
        assert (nominal.verdict, effective.verdict) == ("does not fit", "fits")


@pytest.mark.slow
def test_the_refined_form_fits_matrices_of_its_own_model() -> None:
    """Pairs of eigenvalues +-s with the moments of the paper's product, in free position."""
    ratio, energy, size = 0.5, 0.25, 160
    generator = np.random.default_rng(1)
    half = size // 2
    inner = round(half / ratio)
    factors = generator.standard_normal((half, inner)), generator.standard_normal((inner, half))
    corner = factors[0] @ factors[1]
    second = np.block([[np.zeros((half, half)), corner], [corner.T, np.zeros((half, half))]])
    # tau(H1^2) = eps phi / 2
    second *= math.sqrt(energy * ratio / 2 / (np.trace(second @ second) / size))
    first, _ = drawn(size, ratio, 1.0, 1.0, seed=2)
    split = split_of_matrices(first, second, energy=energy, ratio=ratio)
    found = compare_random_matrices(split, refined=True)
    assert [model.law for model in found.models] == ["Wishart + Wigner"] * 2 + ["refined ReLU"] * 2
    refined = found.models[-1]
    assert [refined.energy, refined.ratio] == pytest.approx([energy, ratio], rel=0.1)
    law = RefinedRelu(energy=energy, ratio=ratio)
    assert refined.index == pytest.approx(law.index, abs=0.02)
    assert refined.critical_energy == pytest.approx(law.critical_energy, rel=0.3)


def test_parts_that_are_aligned_are_told_where_the_bulk_is_not_enough() -> None:
    """``H0`` holds up just what ``H1`` pulls down: nothing of it is negative."""
    second = np.diag(np.tile([-0.1, 0.1], 60))
    first = np.diag(np.tile([0.2, 0.05], 60) + np.repeat([0.0, 6.0], 60))
    generator = np.random.default_rng(0)
    held = compare_random_matrices(split_of_matrices(first, second))
    assert held.free.measured.fraction == 0
    assert held.free.share.value > 0.05
    assert held.free.wasserstein < 0.05
    assert held.free.verdict == "fits in the bulk, not below zero"
    turn = np.linalg.qr(generator.standard_normal((120, 120)))[0]
    turned = compare_random_matrices(split_of_matrices(first, turn @ second @ turn.T))
    assert turned.free.verdict == "fits"


@pytest.mark.slow
def test_at_minima_of_a_tanh_network_the_parts_are_not_free() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(12, 6, generator=generator, dtype=torch.float64)
    targets = torch.randn(12, 6, generator=generator, dtype=torch.float64)
    weights = [torch.randn(6, 6, generator=generator, dtype=torch.float64) for _ in range(2)]
    weights = [(0.4 * w).requires_grad_() for w in weights]
    optimizer = torch.optim.LBFGS(
        weights,
        max_iter=500,
        tolerance_grad=1e-7,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.mse_loss(torch.tanh(inputs @ weights[0].T) @ weights[1].T, targets)
        # without it the minimum is at infinity
        loss = loss + 0.001 * sum(w.square().sum() for w in weights)
        loss.backward()
        return loss

    optimizer.step(closure)
    network = TanhNetwork(weights[0].detach(), weights[1].detach(), inputs)
    split = split_of(network, targets, num_probes=2)
    found = compare_random_matrices(split)
    assert found.free.measured.fraction < 0.05
    assert found.free.share.value > found.free.measured.fraction + 0.05
    assert found.free.wasserstein < 0.05
    assert found.free.alignment > 1.3
    assert found.free.is_aligned
    assert found.free.verdict == "fits in the bulk, not below zero"
    assert found.free.share.standard_error == pytest.approx(0, abs=1e-9)  # both probes see all
    assert "does not fit" in {model.verdict for model in found.models}


def test_what_the_models_do_not_stand_for_is_said() -> None:
    first, second = drawn(40, 0.5, 0.1, 1.0)
    size = len(first)
    of_classes = compare_random_matrices(split_of_matrices(first, second))
    assert [note.code for note in of_classes.notes] == ["no-nominal-energy"]
    assert "got cross_entropy" in of_classes.notes[0]

    wide, _ = drawn(40, 3.0, 0.1, 1.0)
    above = compare_random_matrices(split_of_matrices(wide, second), refined=True)
    assert "ratio-above-one" in [note.code for note in above.notes]
    (model,) = above.models
    assert math.isnan(model.critical_energy)
    assert model.ratio > 1

    shifted = compare_random_matrices(split_of_matrices(first, second + np.eye(size)))
    assert "residual-has-mean" in [note.code for note in shifted.notes]
    assert all(note.qualifies for note in (*above.notes[1:], *shifted.notes[1:]))

    alone = compare_random_matrices(split_of_matrices(first, 1e-12 * second))
    assert [note.code for note in alone.notes] == ["no-two-parts"]
    assert alone.models == ()
    assert alone.free.wasserstein < 0.05


def test_a_spectrum_without_a_width_has_no_distance_in_widths() -> None:
    found = compare_random_matrices(split_of_matrices(np.eye(20), np.zeros((20, 20))))
    assert math.isnan(found.free.wasserstein)
    assert found.free.verdict == "does not fit"
    assert math.isnan(found.residual_mean)
    assert [note.code for note in found.notes] == ["no-two-parts"]


def test_words_follow_from_distance_bracket_and_alignment() -> None:
    measured = NegativeMass(fraction=0.1, bracket=(0.08, 0.12), threshold=1e-3)
    assert verdict(0.051, 0.1, measured) == "does not fit"
    assert verdict(math.nan, 0.1, measured) == "does not fit"
    assert verdict(0.049, 0.1, measured) == verdict(0.049, 0.07, measured) == "fits"
    assert verdict(0.049, 0.069, measured) == "fits in the bulk, not below zero"
    first, second = drawn(60, 0.5, 0.1, 1.0)
    free = compare_random_matrices(split_of_matrices(first, second)).free
    aligned = replace(
        free,
        alignment=1.5,
        deviations=5.0,
        measured=replace(measured, bracket=(0.0, 1.0)),
        wasserstein=0.0,
    )
    assert aligned.verdict == "fits, though the parts are aligned"
    assert replace(aligned, deviations=2.0).verdict == "fits"
    assert replace(aligned, alignment=1.05).verdict == "fits"
    assert replace(aligned, alignment=math.nan, deviations=math.nan).verdict == "fits"


def test_distances_are_those_of_scipy() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(k, generator=generator, dtype=torch.float64) for k in (7, 11))
    second[3] = first[2]
    weights = [torch.rand(k, generator=generator, dtype=torch.float64) for k in (7, 11)]
    one, other = (w / w.sum() for w in weights)
    wanted = stats.wasserstein_distance(first.numpy(), second.numpy(), one.numpy(), other.numpy())
    ours = [x for pair in zip((first, second), (one, other), strict=True) for x in
            (pair[0].sort().values, pair[1][pair[0].sort().indices])]  # fmt: skip
    assert wasserstein_distance(*ours) == pytest.approx(wanted, rel=1e-12)
    even = [torch.full((k,), 1 / k, dtype=torch.float64) for k in (7, 11)]
    wanted = stats.ks_2samp(first.numpy(), second.numpy()).statistic
    assert kolmogorov_distance(first, even[0], second, even[1]) == pytest.approx(wanted, rel=1e-12)


LAWS = [
    WishartPlusWigner(energy=0.1, ratio=0.25),
    WishartPlusWigner(energy=1e-3, ratio=2.5, scale=0.1),
    RefinedRelu(energy=0.25, ratio=0.5),
]


@pytest.mark.parametrize("law", LAWS)
def test_cells_of_a_law_have_its_moments_and_its_index(
    law: WishartPlusWigner | RefinedRelu,
) -> None:
    measure = quantized(law, 500)
    phi, eps = law.ratio, law.energy
    residual = 2 * eps if isinstance(law, WishartPlusWigner) else eps * phi / 2
    assert measure.mean == pytest.approx(law.scale, rel=1e-3)
    assert measure.variance == pytest.approx(law.scale**2 * (phi + residual), rel=2e-3)
    below = float(measure.weights[measure.values < 0].sum())
    assert below == pytest.approx(law.index, abs=3e-3)


def test_cells_that_miss_narrow_peaks_are_refused() -> None:
    with pytest.raises(ArithmeticError, match=r"must add up to 1, got 0\.\d+: its peaks are too"):
        quantized(WishartPlusWigner(energy=1e-16, ratio=3.0), 4)
    with pytest.raises(ValueError, match="`num_cells` must be at least 1, got 0"):
        quantized(LAWS[0], 0)


def test_cells_of_a_free_sum_hold_its_atoms_and_its_mass() -> None:
    twice = FreeSum(projection(0.3), projection(0.3))
    found = twice.quantized(np.linspace(-0.01, 2, 400))
    assert found.weights[np.abs(found.values) < 0.01].sum() == pytest.approx(0.4, abs=1e-6)
    assert found.mean == pytest.approx(0.6, abs=0.01)
    assert found.weights.sum() == pytest.approx(1)


def test_a_model_says_its_parameters_and_its_distances_in_one_line() -> None:
    first, second = drawn(60, 0.5, 0.1, 1.0)
    found = compare_random_matrices(split_of_matrices(first, second, energy=0.1, ratio=0.5))
    nominal: MatrixModel = found.models[0]
    assert str(nominal).startswith("Wishart + Wigner, nominal: epsilon 0.1, phi 0.5, sigma ")
    assert f"KS {nominal.kolmogorov:.2f}, W1/sd {nominal.wasserstein:.3f}: " in str(nominal)
    assert str(nominal).endswith(nominal.verdict)
    assert str(found.free).endswith(found.free.verdict)
    assert str(found.free).startswith(
        f"free sum of the parts: q {found.free.alignment:.2f}; below zero"
    )
