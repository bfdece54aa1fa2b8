"""The spectra of several checkpoints, or of several runs, in one figure."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_hessian.analysis import Paths
from lightning_hessian.reading.frame import Reports, runs_of
from lightning_hessian.records import Report, SpectrumReport
from lightning_hessian.show import Figure, overlay_figure

MAX_SPECTRA = 8


def spectra_figure(reports: Paths | Reports, *, max_spectra: int = MAX_SPECTRA) -> Figure:
    """Draw the spectral densities of several checkpoints, or of several runs, over each other.

    Of one run its course, from light to dark; of several runs the last spectrum of each. Of more
    than ``max_spectra`` as many are drawn, evenly chosen, the first and the last among them, and
    the title says so.

    Args:
        reports: Paths, as of :func:`read_reports`; what it gives; or ``callback.reports``. Those
            without a density are left out.
        max_spectra: How many curves are drawn at most.

    Returns:
        A figure of matplotlib's, to be shown or saved by ``figure.savefig("spectra.png")``.

    Raises:
        ValueError: If no report has a density, or ``max_spectra`` is below 2.
    """
    if max_spectra < 2:
        raise ValueError(f"`max_spectra` must be at least 2, got {max_spectra}.")
    courses = {
        (each.run, each.name): spectra
        for each in runs_of(reports)
        if (spectra := _with_density(each.reports))
    }
    if not courses:
        raise ValueError(
            "`reports` must hold spectra with a density, got none. Measure with `density=True`; "
            "small reports leave it out, `max_overhead=None` measures it each time."
        )
    if len(courses) == 1:
        (((run, _), spectra),) = courses.items()
        labels = [_moment(report) for report in spectra]
        what = f"spectra of {run or 'the training'}"
    else:
        spectra = [course[-1] for course in courses.values()]
        labels = [f"{_titled(*key)}, {_moment(s)}" for key, s in zip(courses, spectra, strict=True)]
        what = "runs, the last spectrum of each"
    chosen = _evenly(len(spectra), max_spectra)
    count = f"{len(chosen)} of {len(spectra)}" if len(chosen) < len(spectra) else f"{len(chosen)}"
    return overlay_figure(
        [(labels[i], spectra[i]) for i in chosen],
        title=f"Hessian of the training loss: {count} {what}",
    )


def _with_density(reports: Sequence[Report]) -> list[SpectrumReport]:
    spectra = [report for report in reports if isinstance(report, SpectrumReport)]
    return [report for report in spectra if report.density is not None]


def _moment(report: SpectrumReport) -> str:
    averaged = ", averaged" if report.weights == "averaged" else ""
    return f"step {report.global_step:,} (epoch {report.epoch}){averaged}"


def _titled(run: str, name: str) -> str:
    return run if name == "hessian" else f"{run} {name}".strip()


def _evenly(count: int, most: int) -> list[int]:
    """Places of at most so many, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return [round(place * (count - 1) / (most - 1)) for place in range(most)]
