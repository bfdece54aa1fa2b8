"""Notes that qualify a number reach whoever looks at it: curve, text, figure."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.figure import Figure

import lightning_hessian
from lightning_hessian import spectra_figure
from lightning_hessian.records import Note, SpectrumReport
from lightning_hessian.records.note import INFORMING
from lightning_hessian.show import (
    history_figure,
    loss_difference_figure,
    loss_difference_history_figure,
    neighbourhood_figure,
    scalars,
    spectrum_figure,
)
from lightning_hessian.show.report_figures import loss_difference_figures
from tests.helpers.loss_difference_reports import bowl, difference_report, neighbourhood_at
from tests.helpers.reports import report_at
from tests.writers.test_tensorboard import written

KINK = Note("on-a-kink", "The weights stand on a kink of the loss.")
BY_RESTARTS = Note("few-vectors", "The basis was restarted.")
DIFFERENCE = difference_report(notes=(KINK,), neighbourhood=(neighbourhood_at(0.1),))


def texts_of(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


def test_codes_that_only_inform_are_codes_that_the_package_gives() -> None:
    package = Path(lightning_hessian.__file__).parent
    trees = [ast.parse(path.read_text("utf8")) for path in package.rglob("*.py")]
    given = {
        call.args[0].value
        for tree in trees
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id == "Note"
        and isinstance(call.args[0], ast.Constant)
    }
    assert given >= INFORMING
    # what takes a number back is not among them
    assert not INFORMING & {"stopped-gradients", "on-a-kink", "density-not-at-rest", "noisy-step"}


@pytest.mark.parametrize(("notes", "flag"), [((), 0.0), ((BY_RESTARTS,), 0.0), ((KINK,), 1.0)])
def test_a_flag_tells_points_that_a_note_qualifies_from_others(
    notes: tuple[Note, ...], flag: float
) -> None:
    assert scalars(report_at(notes=notes))["qualified"] == flag


def test_a_qualification_outlives_json() -> None:
    again = SpectrumReport.from_dict(report_at(notes=(KINK, BY_RESTARTS)).to_dict())
    assert [note.code for note in again.qualifications] == ["on-a-kink"]


def test_all_notes_are_a_text_at_their_step_and_only_there(tmp_path: Path) -> None:
    events = written(tmp_path, report_at(3, notes=(KINK, BY_RESTARTS)), report_at(4))
    assert events.texts("hessian/notes") == [(3, f"{KINK}\n\n{BY_RESTARTS}")]


@pytest.mark.parametrize(
    "figure",
    [
        lambda: spectrum_figure(report_at(notes=(BY_RESTARTS, KINK))),
        lambda: history_figure([report_at(0, notes=(KINK,)), report_at(1, notes=(KINK,))]),
        lambda: loss_difference_figure(DIFFERENCE),
        lambda: loss_difference_history_figure([DIFFERENCE]),
        lambda: neighbourhood_figure(DIFFERENCE),
        lambda: loss_difference_figures([replace(DIFFERENCE, surface=bowl())])["surface"](),
        lambda: spectra_figure([report_at(0), report_at(1, notes=(KINK,))]),
    ],
    ids=["spectrum", "history", "difference", "course", "neighbourhood", "surface", "overlaid"],
)
def test_a_figure_names_the_notes_that_qualify_what_it_shows_once(figure: object) -> None:
    assert callable(figure)
    assert "Read with the notes: on a kink" in texts_of(figure())


def test_a_figure_without_them_names_none() -> None:
    assert not any("note" in text for text in texts_of(spectrum_figure(report_at())))
    informed = spectrum_figure(report_at(notes=(BY_RESTARTS,)))
    assert not any("note" in text for text in texts_of(informed))


def test_many_names_are_cut_after_two_lines() -> None:
    notes = tuple(Note(f"some-long-name-of-a-note-number-{i}", "x") for i in range(20))
    (text,) = (t for t in texts_of(spectrum_figure(report_at(notes=notes))) if "note" in t)
    assert text.count("\n") == 1
    assert text.endswith(" ...")
