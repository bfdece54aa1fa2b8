"""What an entry has of a report, and which bytes are taken for one."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from lightning_hessian import Note
from lightning_hessian.records import Estimate, ParameterBlock, Report
from lightning_hessian.show import scalars
from lightning_hessian.show.tab_entry import entry_bytes, tab_entry
from lightning_hessian.tab.entries import (
    FORMAT,
    LARGEST_ENTRY,
    UnreadableEntryError,
    parse_entry,
)
from tests.helpers.critical_points import escape_at, point_at
from tests.helpers.loss_difference_reports import bowl, difference_report, failed_difference
from tests.helpers.reports import density_at, failed_at, report_at, trace_at
from tests.helpers.tab import Training

REPORTS: dict[str, Report] = {
    "spectrum": report_at(5),
    "critical_point": point_at(5),
    "loss_difference": difference_report(step=5, surface=bowl()),
}
SOUND: dict[str, Any] = {
    "format": FORMAT,
    "callback": "hessian",
    "kind": "spectrum",
    "step": 0,
    "scalars": {},
}


def numbers(part: Any) -> list[float]:
    """All of an entry, wherever they stand."""
    if isinstance(part, dict):
        return numbers(list(part.values()))
    if isinstance(part, list):
        return [number for each in part for number in numbers(each)]
    return [part] if isinstance(part, float) else []


@pytest.mark.parametrize("kind", REPORTS)
def test_an_entry_has_the_reports_numbers_under_their_tags(kind: str) -> None:
    report = REPORTS[kind]
    entry = tab_entry(report, name="mine")
    assert (entry["callback"], entry["kind"], entry["step"]) == ("mine", kind, 5)
    assert entry["scalars"] == pytest.approx(scalars(report), rel=1e-5)
    assert "1,000 parameters" in entry["about"]
    assert entry["failure"] is None


@pytest.mark.parametrize("kind", REPORTS)
def test_an_entry_comes_back_from_its_bytes(kind: str) -> None:
    entry = tab_entry(REPORTS[kind], name="mine")
    # tuples would come back as lists, and numpy's numbers not at all
    assert parse_entry(entry_bytes(entry)) == entry


def test_each_kind_of_report_has_its_own_curves() -> None:
    spectrum, point, difference = (tab_entry(each, name="it") for each in REPORTS.values())
    assert spectrum["density"]["nodes"] == [-1.0, 0.0, 4.0]
    assert spectrum["density"]["weights"] == [0.1, 0.8, 0.1]
    assert spectrum["density"]["probes"] == [[0.1, 0.8, 0.1]] * 2
    assert point["point"] == REPORTS["critical_point"].kind  # type: ignore[attr-defined]
    losses = escape_at().losses.tolist()
    assert point["escape"]["loss"] == pytest.approx(losses, rel=1e-5)
    assert difference["surface"]["k"] == 500
    assert len(difference["surface"]["loss"]) == len(difference["surface"]["y"]) == 23
    assert difference["differences"]["k"] == [1, 2, 3, 4, 5]
    assert "density" not in difference
    assert "surface" not in point


def test_a_failure_is_an_entry_with_its_reason_and_without_curves() -> None:
    for report in (failed_at(3), failed_difference(3)):
        entry = tab_entry(report, name="it")
        assert entry["failure"] == "ValueError: no"
        assert not {"density", "differences", "escape", "surface"} & entry.keys()
        assert parse_entry(entry_bytes(entry)) == entry


def test_notes_tell_whether_they_qualify() -> None:
    notes = (Note("trace-not-reached", "Wider."), Note("gradients-stopped", "Another Hessian."))
    entry = tab_entry(report_at(notes=notes), name="it")
    assert entry["notes"] == [["Wider.", False], ["Another Hessian.", notes[1].qualifies]]
    assert "notes" not in entry["texts"]


def test_what_is_no_number_is_left_open_and_never_written() -> None:
    nan, infinite = math.nan, math.inf
    report = report_at(
        loss=nan,
        trace=trace_at(1.0, nan, (-infinite, infinite)),
        density=density_at(nan, 0.0, infinite),
    )
    entry = tab_entry(report, name="it")
    assert entry["density"]["nodes"] == [None, 0.0, None]
    assert all(math.isfinite(number) for number in numbers(entry))
    assert b"NaN" not in entry_bytes(entry)
    assert b"Infinity" not in entry_bytes(entry)


def test_probes_are_gathered_in_a_few_columns_whose_mean_is_the_density() -> None:
    generator = torch.Generator().manual_seed(0)
    probes = torch.rand(5, 24, dtype=torch.float64, generator=generator)
    probes /= probes.sum(dim=0)
    density = replace(density_at(*range(5)), probe_weights=probes, weights=probes.mean(dim=1))
    entry = tab_entry(report_at(density=density), name="it")["density"]
    assert len(entry["probes"]) == 8
    means = torch.tensor(entry["probes"], dtype=torch.float64).mean(dim=0)
    assert means.tolist() == pytest.approx(entry["weights"], rel=1e-4)


def test_the_curves_of_an_entry_are_the_records_own() -> None:
    report = difference_report()
    found, curves = tab_entry(report, name="l")["differences"], report.differences
    for part, values in (
        ("k", curves.sample_sizes),
        ("mean_abs", curves.mean_abs),
        ("mean_abs_error", curves.mean_abs_standard_error),
        ("rms", curves.rms),
        ("rms_error", curves.rms_standard_error),
    ):
        assert found[part] == pytest.approx(values.tolist(), rel=1e-5, nan_ok=True), part
    point = point_at()
    assert point.escape is not None
    way, t = tab_entry(point, name="c")["escape"], point.escape.distances
    assert way["distance"] == pytest.approx(t.tolist(), rel=1e-5)
    assert way["loss"] == pytest.approx(point.escape.losses.tolist(), rel=1e-5)
    # the drawing has one axis of losses: what was foreseen begins at that of the weights
    foreseen = (2.0 + point.escape.predicted(t)).tolist()
    assert way["predicted"] == pytest.approx(foreseen, rel=1e-5)


def test_a_long_curve_is_thinned_and_keeps_its_ends() -> None:
    losses = torch.rand(500, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    entry = tab_entry(difference_report(losses), name="it")["differences"]
    assert len(entry["k"]) == len(entry["rms"]) <= 80
    assert (entry["k"][0], entry["k"][-1]) == (1, 499)


@pytest.mark.parametrize("name", ["<b>", "__proto__", '"', "\\", "\x00\x1b", "Ω 🏔", "\ud800"])
def test_any_name_of_a_callback_or_layer_comes_back_as_it_is(name: str) -> None:
    block = ParameterBlock(name=name, trace=Estimate(value=1.0, standard_error=0.1))
    entry = tab_entry(report_at(blocks=(block,), data=name), name=name)
    read = parse_entry(entry_bytes(entry))
    assert read["callback"] == name
    assert read["scalars"][f"trace/{name}"] == 1.0
    assert name in read["about"]


def test_reports_of_a_training_have_a_few_kilobytes(trainings: list[Training]) -> None:
    for training in trainings:
        for name, reports in training.reports.items():
            for report in reports:
                assert 1_000 < len(entry_bytes(tab_entry(report, name=name))) < 8_000


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b" " * (LARGEST_ENTRY + 1), "an entry has 16 MiB, more than the 16 of any report"),
        (b"\xff\xfe\x00", "an entry is no JSON: .*codec can't decode"),
        (b"{", "an entry is no JSON: Expecting property name"),
        (b"[" * 100_000, "an entry is no JSON: "),
        (b"[1]", "an entry has no `format`"),
        (b"null", "an entry has no `format`"),
        (b"{}", "an entry has no `format`"),
        (b'{"format": 2}', "in format 2, of another lightning_hessian; this one reads format 1. O"),
        (json.dumps({"format": "x" * 99}).encode(), "in format x{20}, of another"),
    ],
)
def test_bytes_that_are_no_entry_are_refused(content: bytes, words: str) -> None:
    with pytest.raises(UnreadableEntryError, match=words):
        parse_entry(content)


@pytest.mark.parametrize(
    ("part", "wrong", "kind"),
    [
        ("callback", 1, "str"),
        ("kind", None, "str"),
        ("step", "0", "int"),
        ("step", 0.5, "int"),
        ("scalars", [], "dict"),
    ],
)
def test_an_entry_without_one_of_its_parts_is_refused(part: str, wrong: Any, kind: str) -> None:
    assert parse_entry(json.dumps(SOUND).encode()) == SOUND
    lacking = {name: value for name, value in SOUND.items() if name != part}
    for entry in (lacking, SOUND | {part: wrong}):
        with pytest.raises(UnreadableEntryError, match=f"an entry has no `{part}` of type {kind}."):
            parse_entry(json.dumps(entry).encode())


def test_numbers_that_json_does_not_have_are_refused_or_left_open() -> None:
    named = json.dumps(SOUND | {"scalars": {"loss": math.nan}}).encode()
    with pytest.raises(UnreadableEntryError, match="an entry is no JSON: NaN is no number"):
        parse_entry(named)
    large = json.dumps(SOUND).replace('"scalars": {}', '"scalars": {"loss": 1e999}').encode()
    assert parse_entry(large)["scalars"] == {"loss": None}
