"""The names under which a report's numbers are logged."""

from __future__ import annotations

import math

import pytest
import torch

from lightning_hessian.records import (
    Eigenvalues,
    EigenvectorOverlap,
    Estimate,
    ParameterBlock,
    ProductQuality,
    SamplingError,
    SpectrumReport,
)
from lightning_hessian.show import scalars
from tests.helpers.reports import eigenvalues_at, failed_at, report_at, trace_at


def _tags(report: SpectrumReport, prefix: str) -> dict[str, float]:
    return {f"{prefix}/{tag}": value for tag, value in scalars(report).items()}


def test_a_full_report_has_exactly_these_scalars() -> None:
    assert _tags(report_at(), "hessian") == {
        "hessian/failed": 0.0,
        "hessian/qualified": 0.0,
        "hessian/num_parameters": 1000.0,
        "hessian/num_samples": 26.0,
        "hessian/seconds": 1.5,
        "hessian/overhead": 0.04,
        "hessian/num_skipped": 2.0,
        "hessian/eig_1_lower": 3.99,
        "hessian/eig_1_upper": 4.01,
        "hessian/eig_1": 4.0,
        "hessian/eig_1_bound": 0.01,
        "hessian/eig_2": 2.0,
        "hessian/eig_2_bound": 0.5,
        "hessian/eig_min_1": -1.0,
        "hessian/eig_min_1_bound": 0.02,
        "hessian/trace": 12.0,
        "hessian/trace_standard_error": 0.5,
        "hessian/trace_lower": 11.0,
        "hessian/trace_upper": 13.0,
        "hessian/negative_fraction": 0.1,
        "hessian/negative_fraction_lower": 0.05,
        "hessian/negative_fraction_upper": 0.2,
        "hessian/negative_threshold": 1e-4,
        "hessian/loss": 0.7,
        "hessian/gradient_norm": 0.3,
        "hessian/num_hvps": 40.0,
    }


def sampled(population: int | None = 500) -> SamplingError:
    """Of two largest eigenvalues and one smallest."""
    return SamplingError(
        population=population,
        num_samples=26,
        num_batches=4,
        degrees_of_freedom=3,
        num_draws=0,
        eigenvalue_errors=torch.tensor([0.3, 0.2]).double(),
        eigenvalue_biases=torch.tensor([0.1, 0.0]).double(),
        smallest_errors=torch.tensor([0.25]).double(),
        smallest_biases=torch.tensor([-0.1]).double(),
        largest_interval=(3.0, 4.5),
        trace_error=1.5,
        density_distance=0.75,
        num_hvps=3,
    )


@pytest.mark.parametrize("population", [500, None])
def test_sampling_errors_have_exactly_these_scalars(population: int | None) -> None:
    found = _tags(report_at(sampling=sampled(population)), "h")
    assert {tag: found[tag] for tag in found.keys() - _tags(report_at(), "h")} == {
        "h/trace_sampling_error": 1.5,
        "h/density_sampling_distance": 0.75,
        "h/eig_1_sampling_error": pytest.approx(0.3),
        "h/eig_2_sampling_error": pytest.approx(0.2),
        "h/eig_min_1_sampling_error": 0.25,
    }


def test_of_the_whole_population_no_sampling_error_is_logged() -> None:
    plain = _tags(report_at(), "h")
    assert _tags(report_at(sampling=sampled(26)), "h") == plain


def test_blocks_and_overlaps_have_exactly_these_scalars() -> None:
    report = report_at(
        blocks=(
            ParameterBlock(
                name="body",
                trace=Estimate(value=5.0, standard_error=0.5),
                largest=eigenvalues_at([3.0, 1.0], [0.25, 0.125]),
            ),
            ParameterBlock(
                name="head.*",
                trace=Estimate(value=7.0, standard_error=math.nan),
                largest=eigenvalues_at([2.0, math.nan], [0.0, math.nan]),
            ),
        ),
        overlap=EigenvectorOverlap(
            cosines=torch.tensor([0.75, math.nan]).double(),
            partners=torch.tensor([0.0, -1.0]).double(),
            subspace=0.5,
        ),
    )
    found = _tags(report, "h")
    assert {tag: found[tag] for tag in found.keys() - _tags(report_at(), "h")} == {
        "h/trace/body": 5.0,
        "h/trace/body_standard_error": 0.5,
        "h/trace/head.*": 7.0,
        "h/eig_1/body": 3.0,
        "h/eig_1_bound/body": 0.25,
        "h/eig_2/body": 1.0,
        "h/eig_2_bound/body": 0.125,
        "h/eig_1/head.*": 2.0,
        "h/eig_1_bound/head.*": 0.0,
        "h/overlap_1": 0.75,
        "h/subspace_overlap": 0.5,
    }


def test_a_failed_report_has_only_what_it_took() -> None:
    wanted = {"h/failed": 1.0, "h/seconds": 0.1, "h/num_skipped": 0.0}
    assert _tags(failed_at(), "h") == wanted


def test_what_was_not_measured_is_left_out() -> None:
    report = report_at(smallest=Eigenvalues(), trace=None)
    tags = _tags(report, "h")
    assert not [tag for tag in tags if "trace" in tag or "eig_min" in tag]
    assert len(tags) == 26 - 6


def test_the_error_of_products_is_there_where_they_are_differences() -> None:
    plain = _tags(report_at(), "h")
    differences = report_at(products=ProductQuality(method="finite_difference", error=0.25))
    assert _tags(differences, "h") == plain | {"h/hvp_error": 0.25}


@pytest.mark.parametrize("unknown", [math.nan, math.inf])
def test_an_unknown_error_leaves_the_trace_itself(unknown: float) -> None:
    report = report_at(trace=trace_at(12.0, unknown, (-unknown, unknown)))
    tags = _tags(report, "h")
    assert [tag for tag in tags if "trace" in tag] == ["h/trace"]
    assert all(isinstance(value, float) and math.isfinite(value) for value in tags.values())
