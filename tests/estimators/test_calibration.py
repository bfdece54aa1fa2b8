"""Do the stated 95 % intervals hold the truth as often as they say?

200 independent seeds: a true 95 % gives 190 hits with a deviation of 3. 180 to 199 are accepted:
Student's t with the pilot's 7 degrees of freedom holds 98 % of a mean over many normal probes, on
purpose, and less of a skewed one. A normal in the place of Student's t, or an error bar of the
pilot where later probes contradict it, falls below. Of fewer seeds (``HESSIAN_SEEDS``, in CI) as
many as a true 95 % gives in 998 of 1,000 cases.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from scipy.stats import binom
from torch import Tensor

from lightning_hessian.linalg import DenseOperator, measure_spectrum
from lightning_hessian.records import Spectrum, TraceEstimate
from tests.helpers.seeds import SEEDS
from tests.helpers.spectra import (
    outliers_and_bulk,
    power_law,
    symmetric_indefinite,
    symmetric_with,
)

SIZE = 240
SPECTRA = {
    "outliers and bulk": outliers_and_bulk(SIZE),
    "power law": power_law(SIZE),
    "indefinite": symmetric_indefinite(SIZE),
    "identity": torch.ones(SIZE, dtype=torch.float64),
}


def _measured(values: Tensor, count: int, **options: Any) -> list[Spectrum]:
    operator = DenseOperator(symmetric_with(values))
    return [
        measure_spectrum(operator, generator=torch.Generator().manual_seed(seed), **options)
        for seed in range(count)
    ]


def _fewest(count: int) -> int:
    """Hits of true 95 % intervals, which have as few in 0.2 % of cases."""
    return int(binom.ppf(0.002, count, 0.95))


def _is_right_size(errors: Tensor, given: Tensor, *, is_exact: bool = False) -> bool:
    """Whether standard errors are those of the errors: bounded from above, but not by far."""
    size = float((errors / given).square().mean().sqrt())
    # the root mean square of so many normal numbers scatters by this
    scatter = (2 * len(errors)) ** -0.5
    least = 0.7 if len(errors) >= 100 else 0.7 - 2 * scatter
    return size <= 1 + max(0.2, 3 * scatter) and (is_exact or size >= least)


def _hits(traces: list[TraceEstimate | None], truth: float) -> int:
    return sum(t is not None and t.interval[0] <= truth <= t.interval[1] for t in traces)


@pytest.mark.sampled
@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("max_hvps", [16, pytest.param(40, marks=pytest.mark.slow)])
def test_interval_of_the_trace_covers_it_when_the_sweep_is_cut_short(
    name: str, max_hvps: int
) -> None:
    values = SPECTRA[name]
    found = _measured(values, SEEDS, max_hvps=max_hvps, trace_rtol=1e-3)
    hits = _hits([s.trace for s in found], float(values.sum()))
    # signs measure a diagonal exactly, which the second moment of a spectrum cannot know
    is_seldom_missed = name == "identity" or SEEDS < 200
    assert _fewest(SEEDS) <= hits <= (SEEDS if is_seldom_missed else 0.995 * SEEDS)
    # a bracket of two standard errors and the Lanczos resolution
    brackets = [s.negative_mass for s in found]
    share = [float((values < -b.threshold).double().mean()) for b in brackets if b is not None]
    inside = [
        b is not None and b.bracket[0] - 1e-12 <= f <= b.bracket[1] + 1e-12
        for b, f in zip(brackets, share, strict=True)
    ]
    assert sum(inside) >= _fewest(SEEDS)


@pytest.mark.sampled
@pytest.mark.parametrize("name", ["outliers and bulk", "power law", "indefinite"])
def test_interval_of_the_trace_covers_it_when_probes_are_added_after_the_pilot(name: str) -> None:
    # without the density the sweep is short: the second stage draws the most of the probes
    values = SPECTRA[name]
    found = _measured(
        values, SEEDS, density=False, num_eigenvalues=1, num_smallest=0, rtol=0.1, trace_rtol=0.01
    )
    traces = [s.trace for s in found]
    most = SEEDS if SEEDS < 200 else 0.995 * SEEDS
    assert _fewest(SEEDS) <= _hits(traces, float(values.sum())) <= most


@pytest.mark.sampled
@pytest.mark.parametrize("name", ["outliers and bulk", "power law", "indefinite"])
@pytest.mark.parametrize("probes_per_block", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_interval_of_the_trace_covers_it_for_narrower_blocks(
    name: str, probes_per_block: int
) -> None:
    values = SPECTRA[name]
    found = _measured(
        values, SEEDS, max_hvps=16, trace_rtol=1e-3, probes_per_block=probes_per_block
    )
    traces, exact = [s.trace for s in found], float(values.sum())
    assert _hits(traces, exact) >= _fewest(SEEDS)
    # read off the start of the sweep
    errors = torch.tensor([t.value - exact for t in traces if t is not None])
    assert _is_right_size(errors, torch.tensor([t.standard_error for t in traces if t is not None]))


@pytest.mark.sampled
@pytest.mark.parametrize(("probes_per_block", "max_hvps"), [(1, 10), (2, 14)])
@pytest.mark.parametrize("name", ["outliers and bulk", "power law", "few far outliers"])
def test_interval_of_the_trace_covers_it_while_outliers_are_about_to_be_known(
    name: str, probes_per_block: int, max_hvps: int
) -> None:
    # a probe that holds little of one makes its value small, and must not make the error small
    few = torch.cat([torch.tensor([30.0, 20, 10, 5, 3]), torch.linspace(-0.5, 1, SIZE - 5)])
    values = SPECTRA.get(name, few.double())
    found = _measured(
        values, SEEDS, max_hvps=max_hvps, trace_rtol=1e-3, probes_per_block=probes_per_block
    )
    assert _hits([s.trace for s in found], float(values.sum())) >= _fewest(SEEDS)


@pytest.mark.slow
@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("probes_per_block", [1, 2, 4])
def test_interval_of_the_trace_covers_it_as_the_callback_measures_by_default(
    name: str, probes_per_block: int
) -> None:
    values, seeds = SPECTRA[name], SEEDS // 2
    traces = [s.trace for s in _measured(values, seeds, probes_per_block=probes_per_block)]
    assert _hits(traces, float(values.sum())) >= _fewest(seeds)
    errors = torch.tensor([t.value - float(values.sum()) for t in traces if t is not None])
    given = torch.tensor([t.standard_error for t in traces if t is not None])
    # of the identity each probe's form is exact
    assert _is_right_size(errors, given, is_exact=name == "identity")
    # and without bias: the mean error is within 4 of its own standard errors
    rounding = 1e-12 * float(values.abs().sum())
    assert abs(float(errors.mean())) <= 4 * float(errors.std()) / seeds**0.5 + rounding


@pytest.mark.sampled
@pytest.mark.parametrize("name", ["outliers and bulk", "power law", "indefinite"])
@pytest.mark.parametrize(
    "options",
    [
        {"low_precision": True, "max_hvps": 28},
        {"memory_limit": 8 * SIZE * (16 + 20), "max_hvps": 48},
        {"blocks": [torch.arange(50)], "basis": "bfloat16", "max_hvps": 16},
    ],
    ids=lambda options: next(iter(options)),
)
def test_interval_of_the_trace_covers_it_with_every_means_on(
    name: str, options: dict[str, Any]
) -> None:
    values = SPECTRA[name]
    if "low_precision" in options:
        rough = symmetric_with(values).bfloat16().double()
        options = options | {"low_precision": DenseOperator(rough)}
    found = _measured(values, SEEDS // 2, trace_rtol=1e-3, **options)
    assert _hits([s.trace for s in found], float(values.sum())) >= _fewest(SEEDS // 2)


def test_eigenvalues_lie_within_their_bounds_for_every_seed() -> None:
    values = SPECTRA["outliers and bulk"]
    exact = values.sort().values
    for found in _measured(values, 40, max_hvps=40, trace=False, density=False):
        distance = (found.largest.values[:, None] - exact).abs().min(dim=1).values
        assert bool((distance <= found.largest.residual_bounds + 1e-12).all())
        assert bool((found.largest.values[:1] <= exact[-1] + 1e-12).all())
