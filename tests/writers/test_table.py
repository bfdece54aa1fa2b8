"""The table says what the report says, with the digits that the errors leave."""

from __future__ import annotations

import torch

from lightning_hessian import SpectrumReport
from lightning_hessian.writers import spectrum_table

REPORT = SpectrumReport(
    eigenvalues=torch.tensor([12.34567]),
    residual_bounds=torch.tensor([0.02]),
    smallest_eigenvalues=torch.tensor([-0.5]),
    smallest_residual_bounds=torch.tensor([0.0]),
    trace=100.4,
    trace_standard_error=3.0,
    negative_fraction_bracket=(0.25, 0.5),
    loss=0.125,
    num_hvps=40,
    seconds=1.5,
    global_step=7,
    notes=("beware",),
)


def test_a_line_has_each_number_with_its_error() -> None:
    heading, line, note = spectrum_table([REPORT]).splitlines()
    assert line.split("  ")[0] == ""
    cells = ["7", "0.1250", "12.346 +- 0.02", "-0.500000 +- 0", "100.4 +- 3", "0.250 to 0.500"]
    assert [cell for cell in [*cells, "40", "1.50"] if cell not in line] == []
    assert len(line) == len(heading)
    assert note.strip() == "note: beware"


def test_what_was_not_measured_is_a_dash() -> None:
    _, line = spectrum_table([SpectrumReport(loss=1.0, num_hvps=8, seconds=0.1)]).splitlines()
    assert line.split() == ["0", "1.0000", "-", "-", "-", "-", "8", "0.10"]


def test_a_failure_stands_below_its_checkpoint() -> None:
    failed = SpectrumReport(failure="no memory", seconds=1.0, global_step=3, ckpt_path="a.ckpt")
    skipped = SpectrumReport(failure="no file", ckpt_path="b.ckpt")
    lines = spectrum_table([failed, skipped]).splitlines()
    assert lines[0].endswith("  checkpoint")
    assert [line.split() for line in lines[1:]] == [
        ["3", "no", "numbers", "a.ckpt"],
        ["no", "memory"],
        ["-", "no", "numbers", "b.ckpt"],
        ["no", "file"],
    ]
