"""Which pictures of a series of reports are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.figure import Figure

from lightning_hessian import LossDifference
from lightning_hessian.records import LossDifferenceReport
from lightning_hessian.show import Gallery, gallery
from lightning_hessian.show.figures.style import new_figure
from tests.helpers.events import Events
from tests.helpers.fitting import Classifier, loader, trainer
from tests.helpers.loss_difference_reports import difference_report

Reports = Sequence[LossDifferenceReport]


class Drawing:
    """Names a picture of its own and a course for each report, and remembers what was made."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def __call__(self, reports: Reports) -> dict[str, object]:
        number = len(reports)
        return {name: lambda name=name: self._make(name, number) for name in ("own", "history")}

    def _make(self, name: str, number: int) -> Figure:
        self.made.append(f"{name} {number}")
        return new_figure()


def drawn(count: int, *, draws_all: bool) -> list[list[str]]:
    drawing = Drawing()
    gallery = Gallery(drawing)  # type: ignore[arg-type]
    reports = [difference_report(step=step) for step in range(count)]
    shown = [sorted(gallery.next(reports[: n + 1], draws_all=draws_all)) for n in range(count)]
    return [*shown, sorted(gallery.last())]


def test_pictures_come_at_each_doubling_and_at_the_end() -> None:
    both = ["history", "own"]
    assert drawn(10, draws_all=False) == [both, both, [], both, [], [], [], both, [], [], both]


def test_without_a_limit_only_courses_are_left_out() -> None:
    both, own = ["history", "own"], ["own"]
    assert drawn(6, draws_all=True) == [both, both, own, both, own, own, ["history"]]


def test_what_was_drawn_is_not_drawn_again_at_the_end() -> None:
    assert drawn(4, draws_all=False)[-1] == []


def test_what_is_left_out_is_not_made() -> None:
    drawing = Drawing()
    gallery = Gallery(drawing)  # type: ignore[arg-type]
    reports = [difference_report(step=step) for step in range(3)]
    for n in range(3):
        gallery.next(reports[: n + 1], draws_all=False)
    assert drawing.made == ["own 1", "history 1", "own 2", "history 2"]
    gallery.last()
    assert drawing.made[4:] == ["own 3", "history 3"]


def test_a_fit_at_the_defaults_shows_its_start_its_end_and_a_few_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # where they are is asked, not how they look
    dot = np.zeros((1, 1, 3), dtype=np.uint8)
    monkeypatch.setattr(gallery, "rasterize", lambda _: dot)
    callback = LossDifference()
    logger = TensorBoardLogger(tmp_path, name=None, version="run")
    trainer(callback, max_epochs=8, logger=logger).fit(Classifier(), loader())
    steps = [report.global_step for report in callback.reports]
    events = Events(tmp_path / "run")
    assert len(steps) == 10
    for name, numbers in (("difference", (1, 2, 4, 8, 10)), ("history", (2, 3, 5, 9, 10))):
        shown = [step for step, _ in events.images(f"loss_difference/{name}")]
        assert shown == [steps[number - 1] for number in numbers]
