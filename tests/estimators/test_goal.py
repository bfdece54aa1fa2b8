"""When a sweep stops: at the tolerance that was asked for, whatever the width of its blocks."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor

from lightning_hessian.linalg import (
    DenseOperator,
    KrylovSpace,
    RitzPairs,
    block_lanczos,
    measure_spectrum,
    quadrature_weights,
    rademacher,
)
from lightning_hessian.linalg.spectrum import default_probes_per_block
from lightning_hessian.linalg.stopping import SpectrumRule, Tolerances
from tests.helpers.spectra import (
    outliers_and_bulk,
    power_law,
    symmetric_indefinite,
    symmetric_with,
)

SIZE = 300


def semicircle() -> Tensor:
    """Quantiles of Wigner's law on [-1, 1], by the cosine of the angle."""
    angles = torch.linspace(0, math.pi, 100_001, dtype=torch.float64)
    mass = (angles - angles.sin() * angles.cos()) / math.pi
    wanted = (torch.arange(SIZE, dtype=torch.float64) + 0.5) / SIZE
    return -angles[torch.searchsorted(mass, wanted)].cos()


SPECTRA = {
    "outliers and bulk": outliers_and_bulk(SIZE),
    "power law": power_law(SIZE),
    "indefinite": symmetric_indefinite(SIZE),
    "semicircle": semicircle(),
}


def wanted(**options: Any) -> Tolerances:
    """The density alone, unless told otherwise."""
    defaults: dict[str, Any] = {
        "num_eigenvalues": 0,
        "num_smallest": 0,
        "trace": False,
        "density": True,
        "rtol": 1e-2,
        "trace_rtol": 0.05,
        "density_rtol": 1e-3,
        "max_hvps": SIZE,
    }
    return Tolerances(**(defaults | options))


class Rough(DenseOperator):
    """Products with an error of their own, not symmetric, as of few digits."""

    def matmat(self, vectors: Tensor) -> Tensor:
        noise = torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(2))
        return super().matmat(vectors) + 2e-3 * noise.double() @ vectors


def stopped(
    matrix: Tensor,
    goal: SpectrumRule,
    probes_per_block: int,
    seed: int = 0,
    kind: Any = DenseOperator,
) -> KrylovSpace:
    """The space where the goal was reached."""
    return block_lanczos(
        kind(matrix),
        probes(probes_per_block, seed),
        max_dimension=len(matrix),
        generator=torch.Generator().manual_seed(seed),
        should_stop=goal.watch,
    )


def probes(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return rademacher(SIZE, count, generator=generator, dtype=torch.float64)


@pytest.mark.sampled
@pytest.mark.parametrize("probes_per_block", [1, 2, 4])
@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("density_rtol", [1e-3, 4e-3])
def test_the_density_is_within_its_tolerance_of_the_probes_own_for_every_width(
    name: str, probes_per_block: int, density_rtol: float
) -> None:
    values = SPECTRA[name].sort().values
    matrix = symmetric_with(values)
    exact, basis = torch.linalg.eigh(matrix)
    space = stopped(matrix, SpectrumRule(wanted(density_rtol=density_rtol)), probes_per_block)
    ritz = RitzPairs.of(space)
    weights = quadrature_weights(space, ritz).mean(dim=1)
    extent = float(exact[-1] - exact[0])
    # what the probes themselves see: the limit of the quadrature
    own = (basis.T @ probes(probes_per_block, 0)).square().mean(dim=1) / SIZE
    unresolved = stats.wasserstein_distance(ritz.values, exact, weights, own) / extent
    # it has moved by at most the tolerance over each of the last strides, and slows down
    assert unresolved <= 1.5 * density_rtol
    # and no more is spent than that needs
    assert unresolved >= 0.05 * density_rtol
    # against the truth the probes' scatter comes on top: the share of eigenvalues below a point
    # has the variance 2 p (1 - p) / (n b), at most 1 / (2 n b)
    scatter = 1 / math.sqrt(2 * SIZE * probes_per_block)
    distance = stats.wasserstein_distance(ritz.values, exact, weights) / extent
    assert distance <= 1.5 * density_rtol + 2 * scatter


def test_a_tighter_tolerance_of_the_density_costs_more_and_is_finer() -> None:
    matrix = symmetric_with(SPECTRA["semicircle"])
    costs, moved = [], []
    whole = torch.linalg.eigvalsh(matrix)
    for rtol in (1e-2, 3e-3, 1e-3):
        found = measure_spectrum(
            DenseOperator(matrix),
            trace=False,
            num_eigenvalues=0,
            num_smallest=0,
            density_rtol=rtol,
            probes_per_block=4,
            max_hvps=SIZE,
            generator=torch.Generator().manual_seed(0),
        )
        assert found.density is not None
        assert found.notes == ()
        costs.append(found.num_hvps)
        nodes, weights = found.density.nodes, found.density.weights
        moved.append(stats.wasserstein_distance(nodes, whole, weights))
    assert costs == sorted(set(costs))
    assert moved[-1] < moved[0]


@pytest.mark.parametrize("probes_per_block", [1, 2, 3, 4, 8])
def test_the_density_is_watched_over_eight_products_whatever_the_width(
    probes_per_block: int,
) -> None:
    # of a multiple of the identity nothing moves from the first block on: eight products must
    # pass after it, and stop the sweep as soon as they have
    goal = SpectrumRule(wanted())
    space = stopped(2 * torch.eye(SIZE, dtype=torch.float64), goal, probes_per_block)
    assert 8 <= space.dimension - probes_per_block < 8 + probes_per_block
    assert goal.density_notes(space) == ()


def test_a_density_that_still_moves_is_told_with_how_far() -> None:
    goal = SpectrumRule(wanted(max_hvps=12))
    matrix = symmetric_with(SPECTRA["semicircle"])
    space = block_lanczos(
        DenseOperator(matrix),
        probes(4, 0),
        max_dimension=12,
        generator=torch.Generator().manual_seed(0),
        should_stop=goal.watch,
    )
    (note,) = goal.density_notes(space)
    assert note.startswith("the density still moved by ")
    assert "within max_hvps=12" in note


def test_a_rough_sweep_stops_by_what_it_leaves_out_alone() -> None:
    # the products' error, about 0.07 of 10, is above the tolerance, and no step can lower it
    matrix = symmetric_with(SPECTRA["power law"])
    dimensions = []
    for low_precision in (True, False):
        goal = SpectrumRule(
            wanted(num_eigenvalues=3, density=False, rtol=1e-3), low_precision=low_precision
        )
        dimensions.append(stopped(matrix, goal, 2, kind=Rough).dimension)
    assert dimensions[0] < 60
    assert dimensions[1] == SIZE


@pytest.mark.parametrize(("trace", "dimension"), [(False, 8), (True, 16)])
def test_the_trace_asks_for_two_pilots_of_products_first(trace: bool, dimension: int) -> None:
    # one eigenvalue, which the second block finds
    values = torch.zeros(SIZE, dtype=torch.float64)
    values[0] = 1.0
    options = {"num_eigenvalues": 1, "density": False, "trace": trace}
    rule = SpectrumRule(wanted(**options), reads_trace=False)
    assert stopped(symmetric_with(values), rule, 4).dimension == dimension
    # where the start tells of the trace nothing more is asked for
    rule = SpectrumRule(wanted(**options))
    assert stopped(symmetric_with(values), rule, 4).dimension == 8


@pytest.mark.parametrize(
    ("size", "width"), [(1, 1), (2, 2), (3, 3), (4, 4), (499, 4), (500, 1), (10**9, 1)]
)
def test_blocks_are_as_wide_as_the_densitys_error_calls_for(size: int, width: int) -> None:
    assert default_probes_per_block(size) == width


def test_nothing_wanted_is_refused() -> None:
    with pytest.raises(ValueError, match=r"nothing to measure: `num_eigenvalues` .* at least one"):
        wanted(density=False)


def exhausted(dtype: torch.dtype, **options: Any) -> tuple[int, list[str]]:
    """Products and texts of a sweep that has all 27 dimensions, with a tolerance below rounding."""
    matrix = symmetric_with(symmetric_indefinite(27), seed=0).to(dtype)
    found = measure_spectrum(
        DenseOperator(matrix), rtol=1e-8, generator=torch.Generator().manual_seed(0), **options
    )
    return found.num_hvps, [str(n) for n in found.notes if n.code.endswith("not-reached")]


def test_what_rounding_keeps_from_its_tolerance_asks_for_digits_and_not_for_products() -> None:
    num_hvps, texts = exhausted(torch.float32, max_hvps=200)
    assert num_hvps == 27
    assert len(texts) == 2
    for text in texts:
        assert "max_hvps" not in text
        assert "products are off by up to" in text
        assert text.endswith("Give `precision=64`.")


def test_with_enough_digits_nothing_is_left_to_note() -> None:
    assert exhausted(torch.float64, max_hvps=200) == (27, [])


def test_what_too_few_products_keep_from_its_tolerance_asks_for_products() -> None:
    num_hvps, texts = exhausted(torch.float64, max_hvps=16, trace=False, density=False)
    assert num_hvps == 16
    assert all("within max_hvps=16" in text and "precision" not in text for text in texts)
    allowed = exhausted(torch.float64, max_hvps=16, trace=False, density=False, only_reached=True)[
        1
    ]
    assert "within the 16 products allowed" in allowed[0]
