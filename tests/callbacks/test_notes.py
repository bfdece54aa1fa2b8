"""What a fit says of its notes in the terminal, and where its numbers stand in the loggers."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from lightning_hessian import Krylov
from lightning_hessian.records import Note
from tests.helpers.events import Events
from tests.helpers.fitting import Classifier, loader, trainer
from tests.helpers.spectrum import spectrum


class Surrogate(Classifier):
    """Its gradient is that of another loss than its value: a part is held constant."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        return loss * loss.detach()


@contextmanager
def told(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """The lines of a fit, by ``rank_zero_info``, that name a note."""
    lines: list[str] = []
    with caplog.at_level(logging.INFO, logger="lightning.pytorch"):
        caplog.clear()
        yield lines
    lines += [line for r in caplog.records if "note" in (line := r.getMessage())]


def test_a_note_that_qualifies_is_told_once_a_fit_however_many_reports_it_is_true_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    callback, board = spectrum(), TensorBoardLogger(tmp_path, name=None, version="run")
    for number in range(2):
        with told(caplog) as lines:
            trainer(callback, max_epochs=2, logger=board).fit(Surrogate(), loader())
        first = callback.reports[3 * number]
        wanted = [f"from step {first.global_step} on read with the note: {n}" for n in first.notes]
        assert "stopped-gradients" in {note.code for note in first.qualifications}
        # though three reports have each of them
        assert [line.partition(": ")[2] for line in lines] == wanted
    flags = Events(tmp_path / "run").scalars()["hessian_errors/qualified"]
    assert [flag for _, flag in flags] == [1.0] * 6
    assert len(Events(tmp_path / "run").texts("hessian/notes")) == 6


def test_a_fit_without_such_a_note_says_nothing_of_notes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with told(caplog) as lines:
        trainer(spectrum(solver=Krylov(max_hvps=80)), max_epochs=1).fit(Classifier(), loader())
    assert lines == []


def test_two_notes_of_one_kind_in_a_fit_are_told_as_one() -> None:
    recorder = spectrum()._recorder
    for step in range(3):
        note = Note("on-a-kink", f"Seen at step {step}.")
        recorder.reports.append(recorder.kind(notes=(note, Note("few-vectors", "x"))))
        assert [str(each) for each in recorder.log.news()] == [str(note)] * (step == 0)
