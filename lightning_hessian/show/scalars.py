"""The numbers of a report as named scalars, for loggers of every kind."""

from __future__ import annotations

import math

from torch import Tensor

from lightning_hessian.records import (
    LossDifferenceReport,
    NeighbourhoodVariance,
    Report,
    SpectrumReport,
)
from lightning_hessian.statistics import root_with_error

ERRORS_OF_BAND = 2
"""Standard errors from a value to either end of its band."""


def spectrum_scalars(report: SpectrumReport, *, prefix: str) -> dict[str, float]:
    """Name the numbers of a report; what was not measured is left out.

    Args:
        report: To be logged.
        prefix: First part of each tag.

    Returns:
        Tag to value; for a failed measurement only ``failed`` (1) and what it took: ``seconds``,
        ``overhead``, ``num_skipped``.
    """
    scalars = _circumstances(report)
    if report.failure is None:
        scalars |= _eigenvalues(report) | {
            "trace": report.trace,
            "trace_standard_error": report.trace_standard_error,
            "trace_lower": report.trace_interval[0],
            "trace_upper": report.trace_interval[1],
            "negative_fraction": report.negative_fraction,
            "negative_fraction_lower": report.negative_fraction_bracket[0],
            "negative_fraction_upper": report.negative_fraction_bracket[1],
            "negative_threshold": report.negative_threshold,
            "loss": report.loss,
            "gradient_norm": report.gradient_norm,
            "num_hvps": float(report.num_hvps),
        }
    if report.failure is None:
        scalars |= _sampling(report) | _blocks(report) | _overlaps(report)
    if report.failure is None and report.hvp != "exact":
        scalars["hvp_error"] = report.hvp_error
    return _tagged(scalars, prefix)


def loss_difference_scalars(report: LossDifferenceReport, *, prefix: str) -> dict[str, float]:
    """Name the numbers of a report; what was not measured is left out.

    ``mean_abs_difference`` and ``rms_difference`` are those at ``difference_sample_size``, the
    largest ``k`` measured: what the last sample changes. ``deviation`` is ``S``. A band, from
    ``_lower`` to ``_upper``, is two standard errors wide to each side, that of
    ``required_samples`` the 95 % interval.

    Args:
        report: To be logged.
        prefix: First part of each tag.

    Returns:
        Tag to value; for a failed measurement only ``failed`` (1) and what it took: ``seconds``,
        ``overhead``, ``num_skipped``.
    """
    scalars = _circumstances(report)
    if report.failure is None:
        scalars |= (
            {
                "loss": report.loss,
                "loss_standard_error": report.loss_standard_error,
                "num_hvps": float(report.num_hvps),
            }
            | _differences(report)
            | _deviations(report)
            | _required_samples(report)
            | _held_out(report)
            | {"gradient_norm": report.gradient_norm, "hessian_norm": report.hessian_norm}
            | _hessian_differences(report)
        )
        for variance in report.neighbourhood:
            scalars |= _neighbourhood(variance)
    return _tagged(scalars, prefix)


def size_tag(threshold: float) -> str:
    """Tag, without the prefix, of the sample size that a threshold needs.

    Args:
        threshold: In units of the loss.

    Returns:
        ``required_samples_<threshold>``.
    """
    return f"required_samples_{threshold:g}"


def neighbourhood_tag(variance: NeighbourhoodVariance) -> str:
    """Tag, without the prefix, of ``V(sigma)``.

    Args:
        variance: Measured in all directions or in a subspace.

    Returns:
        ``neighbourhood_variance_<sigma>``, followed by the subspace's dimensions if it is in one.
    """
    subspace = "" if variance.dimensions is None else f"_in_{variance.dimensions}"
    return f"neighbourhood_variance_{variance.sigma:g}{subspace}"


def _circumstances(report: Report) -> dict[str, float]:
    return {
        "failed": float(report.failure is not None),
        "seconds": report.seconds,
        "overhead": report.overhead,
        "num_skipped": float(report.num_skipped),
    }


def _tagged(scalars: dict[str, float], prefix: str) -> dict[str, float]:
    return {f"{prefix}/{tag}": value for tag, value in scalars.items() if math.isfinite(value)}


def _with_error(tag: str, value: float, error: float) -> dict[str, float]:
    return {tag: value, f"{tag}_standard_error": error}


def _differences(report: LossDifferenceReport) -> dict[str, float]:
    if not len(report.sample_sizes):
        return {}

    def last(values: Tensor) -> float:
        return float(values[-1])

    value, error = last(report.mean_abs), last(report.mean_abs_standard_error)
    return {
        "difference_sample_size": last(report.sample_sizes),
        **_with_error("mean_abs_difference", value, error),
        "mean_abs_difference_lower": value - ERRORS_OF_BAND * error,
        "mean_abs_difference_upper": value + ERRORS_OF_BAND * error,
        **_with_error("rms_difference", last(report.rms), last(report.rms_standard_error)),
    }


def _deviations(report: LossDifferenceReport) -> dict[str, float]:
    return {
        **_with_error(
            "mean_absolute_deviation",
            report.mean_absolute_deviation,
            report.mean_absolute_deviation_standard_error,
        ),
        **_with_error(
            "deviation", *root_with_error(report.variance, report.variance_standard_error)
        ),
        **_with_error(
            "gradient_deviation",
            *root_with_error(report.gradient_variance, report.gradient_variance_standard_error),
        ),
        **_with_error(
            "hessian_deviation",
            *root_with_error(report.hessian_variance, report.hessian_variance_standard_error),
        ),
    }


def _hessian_differences(report: LossDifferenceReport) -> dict[str, float]:
    """Of the sample whose Hessian is furthest from that of the others."""
    norms = report.hessian_difference_norms
    if not len(norms):
        return {}
    furthest = int(norms.argmax())
    return {
        "hessian_difference_norm": float(norms[furthest]),
        "hessian_difference_norm_bound": float(report.hessian_difference_bounds[furthest]),
    }


def _required_samples(report: LossDifferenceReport) -> dict[str, float]:
    named = {}
    for threshold in report.thresholds:
        needed = report.required_sample_size(threshold)
        tag = size_tag(threshold)
        named[tag] = float(needed.size)
        named[f"{tag}_lower"] = float(needed.lower)
        named[f"{tag}_upper"] = float(needed.upper)
    return named


def _held_out(report: LossDifferenceReport) -> dict[str, float]:
    held_out = report.held_out
    if held_out is None:
        return {}
    spread = root_with_error(held_out.variance, held_out.variance_standard_error)
    return {
        "held_out_loss": held_out.loss,
        **_with_error("held_out_deviation", *spread),
        **_with_error(
            "held_out_mean_absolute_deviation",
            held_out.mean_absolute_deviation,
            held_out.mean_absolute_deviation_standard_error,
        ),
        **_with_error("gap", held_out.gap, held_out.gap_standard_error),
    }


def _neighbourhood(variance: NeighbourhoodVariance) -> dict[str, float]:
    tag = neighbourhood_tag(variance)
    return {
        **_with_error(tag, variance.variance, variance.standard_error),
        f"{tag}_value_part": variance.value_part,
        f"{tag}_linear_part": variance.linear_part,
        f"{tag}_quadratic_part": variance.quadratic_part,
        **_with_error(f"{tag}_prediction", variance.prediction, variance.prediction_standard_error),
    }


def _eigenvalues(report: SpectrumReport) -> dict[str, float]:
    named = {}
    for stem, values, bounds in (
        ("eig", report.eigenvalues, report.residual_bounds),
        ("eig_min", report.smallest_eigenvalues, report.smallest_residual_bounds),
    ):
        for index, (value, bound) in enumerate(zip(values, bounds, strict=True), start=1):
            named[f"{stem}_{index}"] = float(value)
            named[f"{stem}_{index}_bound"] = float(bound)
    return named


def _sampling(report: SpectrumReport) -> dict[str, float]:
    """How far the full training set may be."""
    sampling = report.sampling
    if sampling is None or sampling.population == sampling.num_samples:
        return {}
    named = {
        "eig_1_full_lower": sampling.largest_interval[0],
        "eig_1_full_upper": sampling.largest_interval[1],
        "trace_sampling_error": sampling.trace_error,
        "density_sampling_distance": sampling.density_distance,
    }
    for stem, errors in (
        ("eig", sampling.eigenvalue_errors),
        ("eig_min", sampling.smallest_errors),
    ):
        for index, error in enumerate(errors, start=1):
            named[f"{stem}_{index}_sampling_error"] = float(error)
    return named


def _blocks(report: SpectrumReport) -> dict[str, float]:
    named: dict[str, float] = {}
    for index, block in enumerate(report.blocks):
        if len(report.block_traces):
            error = float(report.block_trace_standard_errors[index])
            named |= _with_error(f"trace/{block}", float(report.block_traces[index]), error)
        if len(report.block_eigenvalues):
            pairs = zip(
                report.block_eigenvalues[index], report.block_residual_bounds[index], strict=True
            )
            for place, (value, bound) in enumerate(pairs, start=1):
                named[f"eig_{place}/{block}"] = float(value)
                named[f"eig_{place}_bound/{block}"] = float(bound)
    return named


def _overlaps(report: SpectrumReport) -> dict[str, float]:
    named = {
        f"overlap_{index}": float(cosine)
        for index, cosine in enumerate(report.eigenvector_overlaps, start=1)
    }
    return named | {"subspace_overlap": report.subspace_overlap}
