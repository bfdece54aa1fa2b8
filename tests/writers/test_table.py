"""The table says what the report says, with the digits that the errors leave."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lightning_hessian import SpectrumReport
from lightning_hessian.records import Estimate, LossDifferenceReport, NegativeMass, Note
from lightning_hessian.show import table
from lightning_hessian.show.table import with_error
from tests.helpers.loss_difference_reports import (
    HELD_OUT,
    difference_report,
    failed_difference,
)
from tests.helpers.reports import eigenvalues_at, trace_at

REPORT = SpectrumReport(
    largest=eigenvalues_at([12.34567], [0.02]),
    smallest=eigenvalues_at([-0.5], [0.0]),
    trace=trace_at(100.4, 3.0),
    negative_mass=NegativeMass(fraction=0.3, bracket=(0.25, 0.5), threshold=0.01),
    loss=0.125,
    num_hvps=40,
    seconds=1.5,
    global_step=7,
    notes=(Note("few-vectors", "beware"),),
)


def test_a_line_has_each_number_with_its_error() -> None:
    heading, line, note = table(SpectrumReport, [REPORT]).splitlines()
    assert line.split("  ")[0] == ""
    cells = ["7", "0.1250", "12.346 +- 0.02", "-0.500000 +- 0", "100.4 +- 3", "0.250 to 0.500"]
    assert [cell for cell in [*cells, "40", "1.50"] if cell not in line] == []
    assert len(line) == len(heading)
    assert note.strip() == "note: beware"


def test_a_line_with_a_qualified_number_is_marked_and_so_is_its_note() -> None:
    notes = (Note("on-a-kink", "kinked"), Note("few-vectors", "beware"))
    plain = table(SpectrumReport, [replace(REPORT, notes=())])
    report = replace(REPORT, notes=notes, ckpt_path="a.ckpt")
    heading, line, *below = table(SpectrumReport, [report]).splitlines()
    assert [heading, line] == [
        f"{plain.splitlines()[0]}  checkpoint",
        f"{plain.splitlines()[1]} *  a.ckpt",
    ]
    assert below == ["     * note: kinked", "       note: beware"]


def test_a_note_of_one_kind_is_said_once_and_marked_in_every_line() -> None:
    notes = [Note("on-a-kink", f"Seen at step {step}.") for step in range(3)]
    reports = [replace(REPORT, notes=(note,)) for note in notes]
    text = table(SpectrumReport, reports)
    assert text.count("note:") == 1
    assert "* note: Seen at step 0." in text
    assert sum(line.endswith(" *") for line in text.splitlines()) == 3


def test_what_was_not_measured_is_a_dash() -> None:
    report = SpectrumReport(loss=1.0, num_hvps=8, seconds=0.1)
    _, line = table(SpectrumReport, [report]).splitlines()
    assert line.split() == ["0", "1.0000", "-", "-", "-", "-", "-", "8", "0.10"]


def test_a_failure_stands_below_its_checkpoint() -> None:
    failed = SpectrumReport(failure="no memory", seconds=1.0, global_step=3, ckpt_path="a.ckpt")
    skipped = SpectrumReport(failure="no file", ckpt_path="b.ckpt")
    lines = table(SpectrumReport, [failed, skipped]).splitlines()
    assert lines[0].endswith("  checkpoint")
    assert [line.split() for line in lines[1:]] == [
        ["3", "no", "numbers", "a.ckpt"],
        ["no", "memory"],
        ["-", "no", "numbers", "b.ckpt"],
        ["no", "file"],
    ]


def test_a_line_of_differences_has_each_number_with_its_error() -> None:
    report = difference_report(
        differences={
            "mean_abs": torch.tensor([1.0, 3.14159e-5]),
            "mean_abs_standard_error": torch.tensor([0.1, 2e-6]),
            "sample_sizes": torch.tensor([1.0, 5.0]),
            "rms": torch.ones(2),
            "rms_standard_error": torch.ones(2),
        },
        spread={
            "variance": Estimate(value=4.0, standard_error=0.4),
            "mean_absolute_deviation": Estimate(value=1.25, standard_error=0.03),
        },
        held_out=HELD_OUT,
        thresholds=(1e-3, 1e-9),
        global_step=7,
        notes=(Note("loss-is-sum", "beware"),),
    )
    heading, line, note = table(LossDifferenceReport, [report]).splitlines()
    needed = report.required_sample_size(1e-3)
    size = f"{needed.size:,} ({needed.lower:,} to {needed.upper:,})"
    cells = ["7", "1.0667", "3.14e-05 +- 2e-06", "2.00 +- 0.1", "1.250 +- 0.03", size]
    assert [cell for cell in [*cells, "0.40 +- 0.2", "1.50"] if cell not in line] == []
    assert "k* at 0.001" in heading
    assert len(line) == len(heading)
    assert note.strip() == "note: beware"


def test_differences_not_measured_are_dashes() -> None:
    heading, line = table(LossDifferenceReport, [difference_report()]).splitlines()
    assert "k* " in heading
    assert line.split()[-3:] == ["-", "-", "1.50"]


def test_a_failed_difference_says_why() -> None:
    lines = table(LossDifferenceReport, [failed_difference(3)]).splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["3", "no", "numbers"],
        ["ValueError:", "no"],
    ]


@pytest.mark.parametrize(
    ("value", "error", "cell"),
    [
        (3.14159e-5, 2e-6, "3.14e-05 +- 2e-06"),
        (-3.14159e-5, 2e-9, "-3.14159e-05 +- 2e-09"),
        (3e-5, 1e-3, "0.0000 +- 0.001"),
        (2e-7, 1e-6, "2e-07 +- 1e-06"),
        (0.5, 1e-9, "0.500000 +- 1e-09"),
        (0.0, 1e-9, "0.000000 +- 1e-09"),
    ],
)
def test_small_values_keep_the_digits_that_their_errors_leave(
    value: float, error: float, cell: str
) -> None:
    report = SpectrumReport(trace=trace_at(value, error), loss=1.0, seconds=0.1)
    assert f" {cell} " in table(SpectrumReport, [report])


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (46.3, 38.0, "46 +- 40"),
        (8.25, 11.0, "8 +- 10"),
        (3157.1, 288.0, "3157 +- 300"),
        (3.0, 2e7, "3 +- 2e+07"),
        (1.5, 0.96, "1.50 +- 1"),
    ],
)
def test_large_errors_stand_beside_their_values_without_a_power_of_ten(
    value: float, error: float, text: str
) -> None:
    assert with_error(value, error) == text
