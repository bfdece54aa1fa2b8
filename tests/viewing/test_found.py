"""Which reports there are at a path, and under which names of runs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer

from lightning_hessian import CriticalPoint
from lightning_hessian.show import write_sidecar
from lightning_hessian.show.tab_entry import tab_entry
from lightning_hessian.tab import FORMAT
from lightning_hessian.viewing.found import CHECKPOINTS, EVENT_FILES, Found, find
from tests.helpers.checkpoints import ByEpochAndStep, fitted
from tests.helpers.loss_difference_reports import difference_report
from tests.helpers.pages import write_events
from tests.helpers.reports import failed_at, report_at
from tests.helpers.spectrum import spectrum


def told(found: Found) -> dict[str, list[tuple[str, int]]]:
    """Run to callback and step of each report."""
    return {
        run["name"]: [(entry["callback"], entry["step"]) for entry in run["entries"]]
        for run in found.runs
    }


def test_runs_in_event_files_have_the_names_that_tensorboard_gives_them(tmp_path: Path) -> None:
    reports = [report_at(0), report_at(10), failed_at(20)]
    write_events(tmp_path / "sgd" / "version_0", reports, losses=[2.0, 1.0])
    write_events(tmp_path / "adam", reports[:1])
    write_events(tmp_path / "none", losses=[3.0])
    found = find([str(tmp_path)])
    board = EventMultiplexer().AddRunsFromDirectory(str(tmp_path)).Reload()
    assert {run["name"] for run in found.runs} == set(board.Runs()) - {"none"}
    by_name = {run["name"]: run for run in found.runs}
    wanted = [json.loads(json.dumps(tab_entry(r, name="hessian"))) for r in reports]
    assert by_name["sgd/version_0"]["entries"] == wanted
    assert by_name["sgd/version_0"]["losses"] == {"train_loss": [[0, 2.0], [1, 1.0]]}
    assert (found.sources, found.left_out) == ((EVENT_FILES,), ())
    # of the folder of a run itself there is but one name
    (alone,) = find([str(tmp_path / "adam")]).runs
    assert alone["name"] == "."


def test_where_event_files_have_nothing_of_ours_checkpoints_and_files_beside_them_are_read(
    tmp_path: Path,
) -> None:
    callbacks = [
        spectrum(at_checkpoints=True),
        CriticalPoint(at_checkpoints=True, max_overhead=None),
    ]
    folder = tmp_path / "csv" / "version_0"
    fitted(folder / "checkpoints", ByEpochAndStep(), *callbacks)
    write_events(folder, losses=[1.0])
    found = find([str(tmp_path / "csv")])
    assert found.sources == (CHECKPOINTS,)
    assert found.callbacks == ["critical_point", "hessian"]
    (run,) = found.runs
    assert run["name"] == "version_0"
    of_step = {(entry["callback"], entry["step"]): entry for entry in run["entries"]}
    for callback in callbacks:
        report = next(each for each in callback.reports if each.step == 3)
        entry = of_step[callback.name, 3]
        assert entry == tab_entry(report, name=callback.name)
    # one report of ours in an event file, and the others are its copies
    write_events(folder, [report_at(3)])
    assert find([str(tmp_path / "csv")]).sources == (EVENT_FILES,)


def test_a_run_without_event_files_is_found_beside_those_with_them(tmp_path: Path) -> None:
    write_events(tmp_path / "board", [report_at(0), report_at(5)])
    # of a run that has its reports in event files these are copies, wherever they are kept
    for name in ("board/checkpoints", "board/kept", "rows/checkpoints"):
        (tmp_path / name).mkdir(parents=True)
        write_sidecar(report_at(5), tmp_path / name / "last.ckpt", name="hessian")
    found = find([str(tmp_path)])
    assert told(found) == {
        "board": [("hessian", 0), ("hessian", 5)],
        "rows": [("hessian", 5)],
    }
    assert found.sources == (EVENT_FILES, CHECKPOINTS)


def test_several_paths_are_named_from_what_they_have_in_common(tmp_path: Path) -> None:
    event_file = write_events(tmp_path / "a" / "one", [report_at(1)])
    write_events(tmp_path / "a" / "two", [report_at(2)])
    (tmp_path / "b").mkdir()
    beside = write_sidecar(report_at(3), tmp_path / "b" / "last.ckpt", name="hessian")
    write_sidecar(difference_report(step=4), tmp_path / "b" / "last.ckpt", name="loss_difference")
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    of_b = [("hessian", 3), ("loss_difference", 4)]
    assert told(find([a, b])) == {
        "a/one": [("hessian", 1)],
        "a/two": [("hessian", 2)],
        "b": of_b,
    }
    assert find([a, b]).sources == (EVENT_FILES, CHECKPOINTS)
    # one that is given twice is one
    assert told(find([a, f"{a}/two"])) == told(find([a]))
    assert told(find([f"{tmp_path}/*/t*"])) == {".": [("hessian", 2)]}
    (name,) = told(find([str(event_file)]))
    assert name == event_file.name
    assert told(find([beside])) == {"b": of_b[:1]}


def test_what_cannot_be_read_is_named_and_the_rest_is_shown(tmp_path: Path) -> None:
    write_events(tmp_path / "good", [report_at(1)])
    later = json.dumps({"format": FORMAT + 1}).encode()
    write_events(tmp_path / "later", [report_at(2)], contents=[later])
    # TensorBoard goes through the files of a run by their names, and stops at such a one
    write_events(tmp_path / "half", [report_at(3)]).rename(tmp_path / "half" / "tfevents.1")
    os.symlink(tmp_path / "nowhere", tmp_path / "half" / "tfevents.2")
    found = find([str(tmp_path)])
    assert told(found) == {
        "good": [("hessian", 1)],
        "half": [("hessian", 3)],
        "later": [("hessian", 2)],
    }
    missing, version = found.left_out
    assert missing == f"{tmp_path}/half/tfevents.2: No such file or directory"
    assert version.startswith(f"later: an entry is in format {FORMAT + 1}, of another")
    damaged = tmp_path / "csv" / "last.ckpt.hessian.json"
    damaged.parent.mkdir()
    damaged.write_text("{")
    write_sidecar(report_at(5), tmp_path / "csv" / "best.ckpt", name="hessian")
    found = find([str(tmp_path / "csv")])
    assert told(found) == {".": [("hessian", 5)]}
    (reason,) = found.left_out
    assert reason.startswith(f"{damaged}: `path` must be a report beside a checkpoint")


def test_a_path_without_anything_or_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`paths` must name what is there, got .*nowhere\. Give"):
        find([str(tmp_path / "nowhere")])
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ValueError, match=r"`paths` must be folders.*got .*notes\.txt\. Give the f"):
        find([str(tmp_path / "*.txt")])
