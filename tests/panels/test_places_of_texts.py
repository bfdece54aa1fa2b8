"""No text is cut off by the canvas, and none stands on another's."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure

from lightning_hessian.records import LossDifferenceReport, Note
from lightning_hessian.show import (
    critical_point_figures,
    history_figure,
    loss_difference_figure,
    loss_difference_figures,
    loss_difference_history_figure,
    neighbourhood_figure,
    rasterize,
    spectrum_figure,
    spectrum_figures,
    surface_figure,
)
from tests.helpers.artists import texts_with_places
from tests.helpers.critical_points import point_at
from tests.helpers.loss_difference_reports import (
    DERIVATIVES,
    HELD_OUT,
    LOSSES,
    bowl,
    difference_report,
    neighbourhood_at,
)
from tests.helpers.reports import density_at, eigenvalues_at, report_at, trace_at

LONG = "all 50,000 samples of the training set (ConcatDataset of a name and of another, augmented)"
MANY = torch.rand(1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
BALLS = tuple(neighbourhood_at(s, dimensions=d) for s in (1e-3, 0.1) for d in (None, 5))


def spectrum(**changes: Any) -> Figure:
    return spectrum_figure(report_at(12_000, **changes))


def many_eigenvalues() -> Figure:
    return spectrum(
        largest=eigenvalues_at([300 / 1.2**i for i in range(20)], [0.1] * 20),
        smallest=eigenvalues_at([-40 / 1.2**i for i in range(10)], [0.1] * 10, [False] * 10),
        density=density_at(-40.0, 0.0, 30.0, 300.0, bandwidth=3.0),
        num_parameters=11_173_962,
        data=LONG,
    )


def qualified() -> Figure:
    names = ("stopped-gradients", "density-not-at-rest", "largest-not-reached", "on-a-kink")
    notes = [Note(f"{name}{end}", "x") for end in ("", "-again") for name in names]
    return spectrum(notes=tuple(notes), data=LONG)


def narrow() -> Figure:
    return spectrum(density=density_at(1000.0, 1000.001, bandwidth=1e-5))


def differences(losses: Any = MANY, **changes: Any) -> LossDifferenceReport:
    return difference_report(losses, 1_200_000, data=LONG, num_parameters=11_173_962, **changes)


def difference_with_everything() -> Figure:
    thresholds = (0.1, 1e-2, 1e-3, 1e-5, 1e-7)
    notes = (Note("mean-not-verified", "x"), Note("losses-too-small", "y"))
    changes = {"notes": notes, "thresholds": thresholds, "num_orders": 20, "held_out": HELD_OUT}
    return loss_difference_figure(differences(**changes, **DERIVATIVES))


def course(num_reports: int, factor: float) -> Figure:
    reports = [
        history_report(100_000 * step, factor * MANY / (step + 1)) for step in range(num_reports)
    ]
    return loss_difference_history_figure(reports)


def history_report(step: int, losses: Any) -> LossDifferenceReport:
    return difference_report(
        losses, step, thresholds=(1e-3,), neighbourhood=BALLS, held_out=HELD_OUT, data=LONG
    )


def spectra(scale: float) -> Figure:
    reports = [
        report_at(
            10_000 * step,
            largest=eigenvalues_at([scale / (step + 1)], [0.01 * abs(scale)]),
            trace=trace_at(-scale, interval=(-2 * scale, 0.0)),
            loss=1000 + 1e-3 * step,
            data=LONG,
        )
        for step in range(8)
    ]
    return history_figure(reports)


SPECTRUM = report_at(
    1_200_000,
    largest=eigenvalues_at([3e5 / 1.2**i for i in range(20)], [0.1] * 20),
    smallest=eigenvalues_at([-4e4], [0.1]),
    density=density_at(-4e4, 0.0, 3e4, 3e5, bandwidth=3e3),
    num_parameters=11_173_962,
    notes=tuple(Note(name, "x") for name in ("stopped-gradients", "density-not-at-rest")),
)
ASKED = differences(thresholds=(1e-3, 1e-5), surface=bowl(loss=-bowl().loss.mul(5).exp()))
FIGURES: dict[str, Callable[[], Figure]] = {
    "spectrum": spectrum,
    "spectrum, many eigenvalues": many_eigenvalues,
    "spectrum, qualified": qualified,
    "spectrum, narrow range": narrow,
    "difference, few losses": lambda: loss_difference_figure(difference_report(LOSSES[:3])),
    "difference, equal losses": lambda: loss_difference_figure(differences(torch.ones(7))),
    "difference": difference_with_everything,
    "difference, off the axis": lambda: loss_difference_figure(differences(thresholds=(1e-9,) * 5)),
    "course of one": lambda: course(1, 1.0),
    "course": lambda: course(9, 1e-6),
    "course of high losses": lambda: course(9, 1e6),
    "history": lambda: spectra(3e-5),
    "history of high eigenvalues": lambda: spectra(-1.2e5),
    "neighbourhood": lambda: neighbourhood_figure(differences(neighbourhood=BALLS)),
    "neighbourhood, one": lambda: neighbourhood_figure(differences(neighbourhood=BALLS[:1])),
    "surface": lambda: surface_figure(bowl()),
    "card of a spectrum": lambda: spectrum_figures([SPECTRUM])["spectrum"](),
    "card of eigenvalues": lambda: spectrum_figures([report_at(0), SPECTRUM])["history"](),
    "card of differences": lambda: loss_difference_figures([ASKED])["difference"](),
    "card of sizes": lambda: loss_difference_figures([ASKED, ASKED])["history"](),
    "card of a surface": lambda: loss_difference_figures([ASKED])["surface"](),
    "card of the gradient": lambda: critical_point_figures([point_at(), point_at()])["history"](),
    "card of a way down": lambda: critical_point_figures([point_at()])["escape"](),
    "surface, steep": lambda: surface_figure(bowl(loss=-bowl().loss.mul(5).exp())),
}


@cache
def drawn(name: str) -> Figure:
    """Each once, for all tests."""
    figure = FIGURES[name]()
    rasterize(figure)
    return figure


@pytest.mark.sampled
@pytest.mark.parametrize("name", FIGURES)
def test_no_text_is_cut_off(name: str) -> None:
    figure = drawn(name)
    width, height = figure.bbox.size
    for _, text, place in texts_with_places(figure):
        assert place.x0 >= 0, text
        assert place.y0 >= 0, text
        assert place.x1 <= width, text
        assert place.y1 <= height, text


@pytest.mark.sampled
@pytest.mark.parametrize("name", FIGURES)
def test_no_text_stands_on_another(name: str) -> None:
    figure = drawn(name)
    found = texts_with_places(figure)
    for (_, one, first), (_, other, second) in itertools.combinations(found, 2):
        # a pixel of a letter's side bearing is not seen
        across = min(first.x1, second.x1) - max(first.x0, second.x0)
        along = min(first.y1, second.y1) - max(first.y0, second.y0)
        assert min(across, along) <= 1, (one, other)


@pytest.mark.sampled
@pytest.mark.parametrize("name", FIGURES)
def test_no_text_stands_on_another_panel(name: str) -> None:
    figure = drawn(name)
    for owner, text, place in texts_with_places(figure):
        for axes in figure.axes:
            assert axes is owner or not axes.bbox.overlaps(place), text
