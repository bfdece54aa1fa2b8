"""What the Hessian tab shows of a report: numbers, texts and curves, in a few KB of JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from lightning_hessian.records import (
    CriticalPointReport,
    LossDifferenceReport,
    Report,
    SpectralDensity,
    SpectrumReport,
)
from lightning_hessian.show.figures.spectrum import describe
from lightning_hessian.show.leaves import leaves_of
from lightning_hessian.show.scalars import scalars
from lightning_hessian.tab import FORMAT

DIGITS = 6
MOST_PROBES = 8
"""Columns that the probes of a density are gathered in; what is more is too long for a tab."""
MOST_POINTS = 80
"""Of a curve against the number of samples."""
KINDS: dict[type[Report], str] = {
    SpectrumReport: "spectrum",
    CriticalPointReport: "critical_point",
    LossDifferenceReport: "loss_difference",
}


def tab_entry(report: Report, *, name: str) -> dict[str, Any]:
    """Gather what the tab shows of a report.

    Args:
        report: With numbers, or with a failure.
        name: Of the callback.

    Returns:
        Primitives, all numbers finite, of :data:`DIGITS` digits: ``scalars`` by tag without the
        callback's name, ``texts`` likewise, ``notes`` with whether they qualify, and the curves
        that the kind of report has.
    """
    entry: dict[str, Any] = {
        "format": FORMAT,
        "callback": name,
        "kind": KINDS.get(type(report), "other"),
        "step": report.step,
        "epoch": report.epoch,
        "about": describe(report),
        "scalars": {tag: _rounded(value) for tag, value in scalars(report).items()},
        "texts": dict(_texts(report)),
        "notes": [[str(note), note.qualifies] for note in report.notes],
        "failure": report.failure,
    }
    if report.failure is None:
        entry |= _curves(report)
    return entry


def tab_run(name: str, reports: Mapping[str, Iterable[Report]]) -> dict[str, Any]:
    """Gather what the page shows of one training, where there is no event file to read it from.

    Args:
        name: Of the training.
        reports: By the names of callbacks.

    Returns:
        As the page takes it; without curves of the user's.
    """
    entries = [tab_entry(report, name=each) for each in reports for report in reports[each]]
    return {"name": name, "entries": entries, "problems": [], "losses": {}}


def entry_bytes(entry: dict[str, Any]) -> bytes:
    """An entry as it stands in an event file.

    Args:
        entry: Of :func:`tab_entry`.

    Returns:
        Compact JSON, in UTF-8.
    """
    return json.dumps(entry, separators=(",", ":"), allow_nan=False).encode()


def _texts(report: Report) -> Iterator[tuple[str, list[str]]]:
    """Paragraphs by tag; notes and the failure have places of their own."""
    for leaf in leaves_of(report):
        if leaf.shown.kind == "text" and leaf.value and leaf.name not in {"notes", "failure"}:
            paragraphs = leaf.value if isinstance(leaf.value, tuple) else (leaf.value,)
            yield leaf.tags[0], [str(each) for each in paragraphs]


def _curves(report: Report) -> dict[str, Any]:
    """The parts that are no single numbers."""
    curves: dict[str, Any] = {}
    density = getattr(report, "density", None)
    if density is not None:
        curves["density"] = _density(density)
    if isinstance(report, CriticalPointReport):
        curves["point"] = report.kind
        if report.escape is not None and len(report.escape.distances):
            distances = report.escape.distances
            curves["escape"] = {
                "distance": _numbers(distances),
                "loss": _numbers(report.escape.losses),
                "predicted": _numbers(report.loss + report.escape.predicted(distances)),
            }
    if isinstance(report, LossDifferenceReport):
        curves |= _difference_curves(report)
    return curves


def _density(density: SpectralDensity) -> dict[str, Any]:
    """Nodes and weights; the probes in groups of equal number, whose scatter is the error."""
    count = density.probe_weights.shape[1]
    groups = max(size for size in range(1, min(count, MOST_PROBES) + 1) if count % size == 0)
    probes = density.probe_weights.unflatten(1, (groups, -1)).mean(dim=2)
    return {
        "nodes": _numbers(density.nodes),
        "weights": _numbers(density.weights),
        "probes": [_numbers(column) for column in probes.T] if groups > 1 else [],
        "bandwidth": _rounded(density.bandwidth),
    }


def _difference_curves(report: LossDifferenceReport) -> dict[str, Any]:
    """The difference against the number of samples, the sizes needed, and the surface."""
    curves = report.differences
    kept = _spread_out(len(curves.sample_sizes))
    parts: dict[str, Any] = {
        "differences": {
            "k": _numbers(curves.sample_sizes[kept]),
            "mean_abs": _numbers(curves.mean_abs[kept]),
            "mean_abs_error": _numbers(curves.mean_abs_standard_error[kept]),
            "rms": _numbers(curves.rms[kept]),
            "rms_error": _numbers(curves.rms_standard_error[kept]),
        },
        "required": [
            {
                "threshold": _rounded(each.threshold),
                "size": each.size,
                "lower": each.lower,
                "upper": each.upper,
                "extrapolated": each.is_extrapolated,
            }
            for each in report.required_sample_sizes
        ],
    }
    surface = report.surface
    if surface is not None:
        parts["surface"] = {
            "x": _numbers(surface.x),
            "y": _numbers(surface.y),
            "loss": [_numbers(row) for row in surface.loss],
            "difference": [_numbers(row) for row in surface.difference],
            "k": surface.sample_size,
            "directions": surface.directions,
        }
    return parts


def _spread_out(count: int) -> Tensor:
    """Places of at most so many points of a curve, its ends among them."""
    return torch.linspace(0, count - 1, min(count, MOST_POINTS)).round().long()


def _numbers(values: Tensor) -> list[float | None]:
    return [_rounded(value) for value in values.tolist()]


def _rounded(value: float) -> float | None:
    """To the digits that a picture has; None for what JSON has no number for."""
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
