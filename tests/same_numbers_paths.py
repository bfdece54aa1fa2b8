"""Where the flat fields of reports of format version 1 stand in the nested ones.

For comparing numbers measured before and after the records were nested: :func:`flattened` makes of
a nested ``to_dict()`` the flat one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

NAN, NONE = math.nan, None

SPECTRUM: dict[str, tuple[str, Any]] = {
    "eigenvalues": ("largest.values", []),
    "residual_bounds": ("largest.residual_bounds", []),
    "converged": ("largest.converged", []),
    "smallest_eigenvalues": ("smallest.values", []),
    "smallest_residual_bounds": ("smallest.residual_bounds", []),
    "smallest_converged": ("smallest.converged", []),
    "trace": ("trace.value", NAN),
    "trace_standard_error": ("trace.standard_error", NAN),
    "trace_interval": ("trace.interval", [NAN, NAN]),
    "density": ("density", NONE),
    "negative_fraction": ("negative_mass.fraction", NAN),
    "negative_fraction_bracket": ("negative_mass.bracket", [NAN, NAN]),
    "negative_threshold": ("negative_mass.threshold", NAN),
    "gradient_norm": ("gradient_norm", NAN),
    "hvp": ("products.method", "exact"),
    "hvp_error": ("products.error", 0.0),
    "gradient_seconds": ("gradient_seconds", NAN),
    "unused_parameters": ("unused_parameters", []),
    "sampling": ("sampling", NONE),
    "eigenvector_overlaps": ("overlap.cosines", []),
    "eigenvector_partners": ("overlap.partners", []),
    "subspace_overlap": ("overlap.subspace", NAN),
    "graph_bytes": ("graph_bytes", 0),
    "engine": ("engine", "krylov"),
}
"""Flat field to its place, and what it was where that is missing. Those of blocks are apart."""

_CURVES = (
    "sample_sizes",
    "rms",
    "rms_standard_error",
    "mean_abs",
    "mean_abs_standard_error",
    "mean_abs_estimate_error",
    "mean_abs_lower",
    "mean_abs_upper",
    "path",
    "orders_mean_abs",
    "orders_standard_error",
)

LOSS_DIFFERENCE: dict[str, tuple[str, Any]] = {
    **{name: (f"differences.{name}", []) for name in _CURVES},
    "num_orders": ("differences.num_orders", 0),
    "block_size": ("differences.samples_per_step", 1),
    "block_rms": ("differences.step_rms", []),
    "variance": ("spread.variance.value", NAN),
    "variance_standard_error": ("spread.variance.standard_error", NAN),
    "mean_absolute_deviation": ("spread.mean_absolute_deviation.value", NAN),
    "mean_absolute_deviation_standard_error": (
        "spread.mean_absolute_deviation.standard_error",
        NAN,
    ),
    "gini_mean_difference": ("spread.gini_mean_difference", NAN),
    "range": ("spread.range", NAN),
    "loss_standard_error": ("loss_standard_error", NAN),
    "separability": ("separability", "mean"),
    "sample_method": ("sample_method", "batched"),
    "sample_losses": ("sample_losses", []),
    "gradient_norm": ("gradient.norm", NAN),
    "gradient_variance": ("gradient.variance.value", NAN),
    "gradient_variance_standard_error": ("gradient.variance.standard_error", NAN),
    "hessian_norm": ("hessian.norm", NAN),
    "hessian_variance": ("hessian.variance.value", NAN),
    "hessian_variance_standard_error": ("hessian.variance.standard_error", NAN),
    "neighbourhood": ("neighbourhood", []),
    "hessian_difference_norms": ("hessian_differences.norms", []),
    "hessian_difference_bounds": ("hessian_differences.residual_bounds", []),
    "surface": ("surface", NONE),
    "thresholds": ("thresholds", []),
}
"""The same for loss differences. Those of held-out losses are apart."""

HELD_OUT: dict[str, tuple[str, Any]] = {
    "loss": ("loss", NAN),
    "variance": ("spread.variance.value", NAN),
    "variance_standard_error": ("spread.variance.standard_error", NAN),
    "mean_absolute_deviation": ("spread.mean_absolute_deviation.value", NAN),
    "mean_absolute_deviation_standard_error": (
        "spread.mean_absolute_deviation.standard_error",
        NAN,
    ),
    "gap": ("gap.value", NAN),
    "gap_standard_error": ("gap.standard_error", NAN),
    "mean_distance": ("mean_distance.value", NAN),
    "mean_distance_standard_error": ("mean_distance.standard_error", NAN),
    "num_samples": ("num_samples", 0),
    "data": ("data", ""),
}
"""Of ``held_out``, which was flat too."""

CIRCUMSTANCES = (
    "loss",
    "num_parameters",
    "num_samples",
    "data",
    "mode",
    "loss_name",
    "weights",
    "num_hvps",
    "seconds",
    "overhead",
    "num_skipped",
    "epoch",
    "global_step",
    "ckpt_path",
    "failure",
)
"""As they were."""


def flattened(report: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of format version 1, from the ``to_dict()`` of a nested report."""
    flat = {name: report[name] for name in CIRCUMSTANCES}
    flat["notes"] = [_text(note) for note in report["notes"]]
    if "largest" in report:
        flat |= _taken(report, SPECTRUM) | _blocks(report["blocks"])
        if flat["sampling"] is not None:
            notes = [_text(note) for note in flat["sampling"]["notes"]]
            flat["sampling"] = {**flat["sampling"], "notes": notes}
    else:
        held_out = report["held_out"]
        flat |= _taken(report, LOSS_DIFFERENCE)
        flat["held_out"] = None if held_out is None else _taken(held_out, HELD_OUT)
    return flat


def _taken(record: Mapping[str, Any], paths: Mapping[str, tuple[str, Any]]) -> dict[str, Any]:
    found = {}
    for name, (path, missing) in paths.items():
        value: Any = record
        for part in path.split("."):
            value = None if value is None else value[part]
        found[name] = missing if value is None else value
    return found


def _blocks(blocks: list[Any]) -> dict[str, Any]:
    """Rows of eigenvalues were filled up with nan, to the longest here."""
    longest = max((len(block["largest"]["values"]) for block in blocks), default=0)
    traces = [block["trace"] for block in blocks if block["trace"] is not None]

    def rows(name: str) -> list[list[float]]:
        found = [block["largest"][name] for block in blocks] if longest else []
        return [row + [NAN] * (longest - len(row)) for row in found]

    return {
        "blocks": [block["name"] for block in blocks],
        "block_traces": [trace["value"] for trace in traces],
        "block_trace_standard_errors": [trace["standard_error"] for trace in traces],
        "block_eigenvalues": rows("values"),
        "block_residual_bounds": rows("residual_bounds"),
    }


def _text(note: Any) -> str:
    return note["text"] if isinstance(note, Mapping) else note
