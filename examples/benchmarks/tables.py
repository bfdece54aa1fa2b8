"""Records of a benchmark as lines of a markdown table."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from examples.benchmarks.answers import LARGEST_ERROR, SMALLEST_ERROR, TRACE_ERROR
from examples.benchmarks.timing import Record
from examples.benchmarks.truth import Truth
from examples.benchmarks.workloads import Workload

COLUMNS = (
    "", "top 5", "smallest", "trace", "density", "HVPs", "gradients", "seconds", "MiB",
    "times ours",
)  # fmt: skip


def heading(workload: Workload, truth: Truth) -> str:
    """What is measured, and the truth."""
    largest = " ".join(f"{value:.4g}" for value in truth.largest)
    how = "dense float64"
    if truth.arpack is not None:
        how = f"float64, residuals up to {truth.residual:.0e}, ARPACK {truth.arpack:.0e} off"
    dominant = "also" if truth.largest_are_dominant else "NOT"
    return (
        f"**{workload.name}**: {workload.title}; {workload.num_parameters:,} parameters, "
        f"{workload.num_samples:,} samples in batches of {len(workload.batches[0][1])}. Largest "
        f"{largest} ({dominant} the largest by magnitude), smallest {truth.smallest:.4g}, trace "
        f"{truth.trace:.5g} +- {truth.trace_error:.2g} ({how})."
    )


def table(
    records: Sequence[Record], peaks: Sequence[float | None], rmse: Sequence[float | None]
) -> str:
    """One line for each contender, the first of them ours.

    Eigenvalues: the worst relative error over repetitions; trace: the root mean square of the
    relative errors; density: the median of the Wasserstein-1 distances; an error beyond what is
    asked for is marked. Costs are medians, ``times ours`` the median of ratios within a repetition,
    with their range.

    Args:
        records: Of each contender.
        peaks: MiB of each.
        rmse: Relative error of each one's trace over further seeds, which replaces the column's.
    """
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    for record, peak, verified in zip(records, peaks, rmse, strict=True):
        errors = record.errors
        trace = statistics.mean(e.trace**2 for e in errors) ** 0.5
        cells = (
            record.name,
            _marked(max(e.largest for e in errors), LARGEST_ERROR),
            _marked(max(e.smallest for e in errors), SMALLEST_ERROR),
            _marked(trace if verified is None else verified, TRACE_ERROR),
            f"{statistics.median(e.density for e in errors):.1e}",
            f"{statistics.median(record.products):.0f}",
            f"{statistics.median(record.units):.0f}",
            f"{statistics.median(record.seconds):.2f}",
            "-" if peak is None else f"{peak:.0f}",
            _ratios(record, records[0]),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def row(*cells: object) -> str:
    """A line of any table."""
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def header(title: str, *columns: str) -> str:
    """The title of a table and its first lines."""
    return f"\n**{title}**\n\n{row(*columns)}\n|{'---|' * len(columns)}"


def spread(values: Sequence[float], style: str) -> str:
    """The median, from the least to the most."""
    return f"{statistics.median(values):{style}} ({min(values):{style}} to {max(values):{style}})"


def _marked(error: float, asked: float) -> str:
    if error != error:
        return "none"
    return f"{error:.1e}" + ("" if error <= asked else " (!)")


def _ratios(record: Record, ours: Record) -> str:
    if record is ours:
        return "1"
    pairs = zip(record.seconds, ours.seconds, strict=True)
    ratios = sorted(theirs / our for theirs, our in pairs)
    spread = f" ({ratios[0]:.1f} to {ratios[-1]:.1f})" if len(ratios) > 1 else ""
    return f"{statistics.median(ratios):.1f}{spread}"
