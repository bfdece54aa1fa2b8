"""Traces of diagonal blocks: unbiased for any block, with the error of the theory, for free."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor

from lightning_hessian.linalg import DenseOperator, KrylovSpace, estimate_trace, measure_spectrum
from lightning_hessian.records import BlockTraces, Spectrum
from tests.helpers.spectra import (
    outliers_and_bulk,
    power_law,
    sweep,
    symmetric_indefinite,
    symmetric_with,
)

SIZE = 90
SPECTRA = {
    "outliers and bulk": outliers_and_bulk(SIZE),
    "power law": power_law(SIZE),
    "indefinite": symmetric_indefinite(SIZE),
}
# two that make up a partition but for the last ten, one over both, a single position, any order
BLOCKS = [
    torch.arange(30),
    torch.arange(30, 80),
    torch.arange(20, 60),
    torch.tensor([85]),
    torch.tensor([70, 3, 41]),
]


def block_traces(matrix: Tensor) -> Tensor:
    return torch.stack([matrix.diagonal()[block].sum() for block in BLOCKS])


def block_error(matrix: Tensor, block: Tensor, space: KrylovSpace | None) -> float:
    """Of one Rademacher probe: of ``z^T N z`` it is ``(sum_{i<j} (N_ij + N_ji)^2)^(1/2)``."""
    size = len(matrix)
    rest = matrix
    if space is not None:
        projector = space.basis.T @ space.basis
        rest = (torch.eye(size) + projector) @ matrix @ (torch.eye(size) - projector)
    form = torch.zeros_like(matrix)
    form[block] = rest[block]
    pairs = (form + form.T).triu(diagonal=1)
    return float(pairs.norm())


def measured(matrix: Tensor, seed: int, **options: Any) -> Spectrum:
    return measure_spectrum(
        DenseOperator(matrix), generator=torch.Generator().manual_seed(seed), **options
    )


def of(found: Spectrum) -> BlockTraces:
    assert found.trace is not None
    assert found.trace.blocks is not None
    return found.trace.blocks


@pytest.mark.sampled
@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("dimension", [0, 8, 40])
def test_traces_are_unbiased_with_the_derived_error(name: str, dimension: int) -> None:
    matrix = symmetric_with(SPECTRA[name])
    # one basis, unconverged, and many independent sets of probes
    space = sweep(matrix, dimension=dimension, seed=999) if dimension else None
    runs, probes = 120, 8
    estimates = []
    for seed in range(runs):
        found = estimate_trace(
            DenseOperator(matrix),
            rtol=1e-9,
            max_num_probes=probes,
            generator=torch.Generator().manual_seed(seed),
            space=space,
            blocks=BLOCKS,
        ).blocks
        assert found is not None
        estimates.append(found)
    values = torch.stack([e.values for e in estimates])
    errors = torch.tensor([block_error(matrix, b, space) for b in BLOCKS]) / math.sqrt(probes)
    away = (values.mean(dim=0) - block_traces(matrix)).abs()
    assert bool((away < 4 * errors / math.sqrt(runs) + 1e-12).all())
    # a deviation of 120 values is good to 7 %, of skewed ones to less
    torch.testing.assert_close(values.std(dim=0), errors.double(), rtol=0.25, atol=1e-12)
    stated = torch.stack([e.standard_errors for e in estimates]).square().mean(dim=0).sqrt()
    torch.testing.assert_close(stated, errors.double(), rtol=0.15, atol=1e-12)


@pytest.mark.slow
@pytest.mark.sampled
@pytest.mark.parametrize(
    "options",
    [
        {"max_hvps": 24},
        # in 16 vectors beside the blocks in flight: thick restarts
        {"max_hvps": 48, "density": False, "memory_limit": (16 + 16) * 8 * SIZE},
    ],
    ids=["sweep", "memory limit"],
)
def test_a_measurement_is_unbiased_and_its_intervals_cover(options: dict[str, Any]) -> None:
    matrix = symmetric_with(SPECTRA["indefinite"])
    options |= {"num_eigenvalues": 2, "trace_rtol": 1e-6, "blocks": BLOCKS}
    found = [measured(matrix, seed, **options) for seed in range(120)]
    is_limited = "memory_limit" in options
    assert all(("`memory_limit`" in " ".join(f.notes)) == is_limited for f in found)
    values = torch.stack([of(f).values for f in found])
    errors = torch.stack([of(f).standard_errors for f in found])
    away = values - block_traces(matrix)
    assert bool((away.mean(dim=0).abs() < 4 * away.std(dim=0) / math.sqrt(len(found))).all())
    # Student's t with a pilot's degrees of freedom, as for the whole trace; of 120 true 95 %
    # intervals 114 hold it, 107 or more in 99 % of cases
    hits = (away.abs() <= stats.t.ppf(0.975, 7) * errors).sum(dim=0)
    assert bool((hits >= 107).all())
    # and the errors are no wider than they must be
    assert bool((errors.square().mean(dim=0).sqrt() < 1.3 * away.std(dim=0)).all())


def test_more_of_them_cost_no_product_and_leave_the_trace_as_it_is() -> None:
    matrix = symmetric_with(SPECTRA["outliers and bulk"])
    one = [torch.arange(7)]
    without, with_blocks = (measured(matrix, 3, blocks=blocks) for blocks in (one, BLOCKS))
    assert with_blocks.num_hvps == without.num_hvps
    assert without.trace is not None
    assert with_blocks.trace is not None
    assert with_blocks.trace.value == without.trace.value
    assert with_blocks.trace.num_probes == without.trace.num_probes


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_they_are_exact_to_rounding_when_the_space_is_whole(dtype: torch.dtype) -> None:
    matrix = symmetric_with(power_law(20), dtype=dtype)
    blocks = [torch.arange(7), torch.arange(5, 20), torch.arange(20)]
    whole = measured(matrix, 0, blocks=blocks)
    found = of(whole)
    wanted = torch.stack([matrix.double().diagonal()[block].sum() for block in blocks])
    assert bool(((found.values - wanted).abs() <= 2 * found.standard_errors).all())
    assert whole.trace is not None
    # all of them together are the trace; 64 roundings of the norm, 10, times the root of 20
    assert float(found.values[2]) == pytest.approx(whole.trace.value)
    assert float(found.standard_errors[2]) == pytest.approx(whole.trace.standard_error)
    assert float(found.standard_errors.max()) < 100 * torch.finfo(dtype).eps * 10 * math.sqrt(20)


def test_a_diagonal_operator_is_measured_exactly_by_plain_probes() -> None:
    diagonal = torch.linspace(-1, 3, 40, dtype=torch.float64)
    found = estimate_trace(
        DenseOperator(torch.diag(diagonal)),
        rtol=0.1,
        max_num_probes=8,
        generator=torch.Generator().manual_seed(0),
        blocks=[torch.arange(10), torch.arange(5, 40)],
    ).blocks
    assert found is not None
    torch.testing.assert_close(found.values, torch.stack([diagonal[:10].sum(), diagonal[5:].sum()]))
    assert float(found.standard_errors.max()) < 1e-12


def test_of_a_single_probe_the_errors_are_unknown() -> None:
    found = estimate_trace(
        DenseOperator(symmetric_with(power_law(30))),
        rtol=0.1,
        max_num_probes=1,
        generator=torch.Generator().manual_seed(0),
        blocks=[torch.arange(10)],
    ).blocks
    assert found is not None
    assert bool(found.standard_errors.isnan().all())
    assert bool(found.values.isfinite().all())
