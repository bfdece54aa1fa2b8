"""The Frobenius norm from the probes of the trace, on matrices with wanted eigenvalues."""

from __future__ import annotations

import math

import pytest
import torch

from lightning_hessian.linalg import DenseOperator, estimate_trace, measure_spectrum
from lightning_hessian.records import Spectrum
from tests.helpers.spectra import (
    outliers_and_bulk,
    power_law,
    symmetric_indefinite,
    symmetric_with,
)

SPECTRA = {
    "outliers and bulk": outliers_and_bulk(120),
    "indefinite": symmetric_indefinite(120),
    "power law": power_law(120),
}
SEEDS = 100


def found_in(values: torch.Tensor, seed: int, **options: object) -> Spectrum:
    return measure_spectrum(
        DenseOperator(symmetric_with(values, seed=seed)),
        generator=torch.Generator().manual_seed(seed),
        **{"max_hvps": 40, "trace_rtol": 0.02, **options},
    )


@pytest.mark.sampled
@pytest.mark.parametrize("name", SPECTRA)
def test_squares_are_unbiased_and_their_error_covers_the_truth(name: str) -> None:
    values = SPECTRA[name]
    truth = float(values.square().sum())
    squares = [found_in(values, seed).trace.squares for seed in range(SEEDS)]
    misses = torch.tensor([each.value - truth for each in squares])
    errors = torch.tensor([each.standard_error for each in squares])
    # the mean of so many independent estimates, within four of its own standard errors
    assert abs(float(misses.mean())) <= 4 * float(misses.std()) / math.sqrt(SEEDS)
    # Student's 95 % for the eight probes that there are at least; three deviations of the count
    assert float((misses.abs() <= 2.365 * errors).double().mean()) >= 0.95 - 3 * 0.022


def test_a_whole_space_gives_the_norm_to_its_rounding() -> None:
    values = torch.linspace(-1, 3, 12, dtype=torch.float64)
    found = found_in(values, 0, max_hvps=200)
    squares, truth = found.trace.squares, float(values.square().sum())
    assert found.trace.num_probes == 0
    assert abs(squares.value - truth) <= max(squares.standard_error, 1e-12 * truth)


def test_plain_probes_and_a_single_one() -> None:
    values = SPECTRA["indefinite"]
    operator = DenseOperator(symmetric_with(values, seed=0))
    generator = torch.Generator().manual_seed(0)
    single = estimate_trace(operator, rtol=0.1, max_num_probes=1, generator=generator)
    assert math.isnan(single.squares.standard_error)
    many = estimate_trace(operator, rtol=1e-3, max_num_probes=400, generator=generator).squares
    assert abs(many.value - float(values.square().sum())) <= 4 * many.standard_error


def test_a_refined_sweep_counts_what_leads_out_of_its_vectors() -> None:
    values = SPECTRA["outliers and bulk"]
    matrix = symmetric_with(values, seed=0)
    rough = DenseOperator((matrix + matrix.T).bfloat16().double() / 2)
    truth = float(values.square().sum())
    found = found_in(values, 0, low_precision=rough, max_hvps=80).trace.squares
    assert abs(found.value - truth) <= 4 * found.standard_error
