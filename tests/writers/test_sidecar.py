"""The file beside a checkpoint: what is read of which version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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


@pytest.mark.parametrize(("version", "writer"), [(1, "one before 0.1.0"), (99, "a later one")])
def test_a_report_of_another_version_says_who_wrote_it_and_what_to_do(
    tmp_path: Path, version: int, writer: str
) -> None:
    path = tmp_path / "a.ckpt.hessian.json"
    path.write_text(json.dumps({"format_version": version, "trace": 12.0}))
    said = rf"format version {version}, .* wrote \({writer}\); .* version 2\. .* `analyze`"
    with pytest.raises(ValueError, match=said):
        read_sidecar(path)


@pytest.mark.parametrize("version", [None, True, "2", 2.0, [2], {"a": 2}], ids=str)
def test_a_version_is_a_whole_number(tmp_path: Path, version: Any) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"format_version": version}))
    kind = type(version).__name__
    with pytest.raises(ValueError, match=f"a whole number .*'format_version'.* type {kind}"):
        read_sidecar(path)


@pytest.mark.parametrize(
    "content",
    [
        "[" * 100_000 + "]" * 100_000,
        '{"a":' * 100_000 + "1" + "}" * 100_000,
        json.dumps({"format_version": 2, "density": {"nodes": [[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]}}),
    ],
    ids=["lists", "records", "in a report"],
)
def test_what_is_too_deep_for_a_report_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"a\.json holds lists within lists deeper than the 16"):
        read_sidecar(path)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe{}", b"\x80", b"nothing", b'{"a": 1' + b"0" * 5000 + b"}"]
)
def test_what_is_no_json_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"`path` must be a report .*a\.json (is no JSON|has no)"):
        read_sidecar(path)


def test_what_is_too_large_for_a_report_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with path.open("wb") as file:
        file.truncate(2**30)  # takes no room
    with pytest.raises(ValueError, match=r"a\.json has more than 256 MiB, which no report has"):
        read_sidecar(path)


def test_the_values_of_a_report_are_looked_at_with_their_places(tmp_path: Path) -> None:
    path = Path(write_sidecar(report_at(3), tmp_path / "a.ckpt", name="hessian"))
    values = json.loads(path.read_text())
    values["trace"]["interval"] = [1.0, "high"]
    path.write_text(json.dumps(values))
    said = r"`trace.interval\[1\]` must be a number, got 'high'"
    with pytest.raises(ValueError, match=said):
        SpectrumReport.from_dict(read_sidecar(path))


def test_pandas_reads_it_as_the_documentation_says(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    path = write_sidecar(report_at(3), tmp_path / "a.ckpt", name="hessian")
    series = pandas.read_json(path, typ="series")
    assert series["global_step"] == 3
    assert series["trace"]["value"] == 12.0
    frame = pandas.json_normalize([json.loads(Path(path).read_text())])
    assert frame["trace.value"].tolist() == [12.0]


def test_what_is_no_report_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("[1, 2]")
    with pytest.raises(ValueError, match="`path` must be a report beside a checkpoint"):
        read_sidecar(path)
