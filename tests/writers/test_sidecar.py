"""The file beside a checkpoint: what is read of which version."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lightning_hessian import SpectrumReport
from lightning_hessian.records import Note
from lightning_hessian.show import read_sidecar, scalars, write_sidecar
from tests.helpers.reports import report_at


def test_a_report_beside_a_checkpoint_is_nested_and_comes_back(tmp_path: Path) -> None:
    report = report_at(3, notes=(Note("trace-not-reached", "The trace was not reached."),))
    path = write_sidecar(report, tmp_path / "a.ckpt", name="hessian")
    plain = json.loads(Path(path).read_text())
    assert plain["format_version"] == 2
    assert plain["trace"]["value"] == 12.0
    assert plain["notes"] == [{"code": "trace-not-reached", "text": "The trace was not reached."}]
    again = SpectrumReport.from_dict(read_sidecar(path))
    assert scalars(again) == scalars(report)
    assert [(note.code, str(note)) for note in again.notes] == [
        ("trace-not-reached", "The trace was not reached.")
    ]


@pytest.mark.parametrize(
    ("version", "writer"), [(1, "one before 0.1.0"), (99, "a later one"), (None, "a later one")]
)
def test_a_report_of_another_version_says_who_wrote_it_and_what_to_do(
    tmp_path: Path, version: int | None, writer: str
) -> None:
    path = tmp_path / "a.ckpt.hessian.json"
    path.write_text(json.dumps({"format_version": version, "trace": 12.0}))
    said = rf"format version {version}, .* wrote \({writer}\); .* version 2\. .* `analyze`"
    with pytest.raises(ValueError, match=said):
        read_sidecar(path)


def test_what_is_no_report_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("[1, 2]")
    with pytest.raises(ValueError, match="`path` must be a report beside a checkpoint"):
        read_sidecar(path)
