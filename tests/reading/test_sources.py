"""All reports of runs are found, each once, whatever else lies in the folder."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_hessian import LossDifference, read_reports
from lightning_hessian.callbacks import MeasuringCallback
from lightning_hessian.reading.run_reports import KINDS, USUAL_NAMES
from lightning_hessian.show import write_sidecar
from tests.helpers.checkpoints import ByEpochAndStep, fitted, numbers
from tests.helpers.difference import difference
from tests.helpers.patience import at_most
from tests.helpers.reports import failed_at, report_at
from tests.helpers.spectrum import spectrum


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[MeasuringCallback[Any]]]:
    """A run with reports at its checkpoints of steps 3 and 6, and at others, by two callbacks."""
    folder = tmp_path_factory.mktemp("logs") / "version_0"
    both = [spectrum(at_checkpoints=True, every_n_train_steps=2, density=True), difference()]
    fitted(folder / "checkpoints", ByEpochAndStep(), *both, saver={"save_last": True})
    return folder, both


def told(reports: Any) -> list[dict[str, str]]:
    return [numbers(report) for report in reports]


def test_every_report_of_a_run_is_read_once(run: Any) -> None:
    folder, (ours, others) = run
    found = read_reports(folder)
    assert [(each.run, each.name) for each in found] == [
        ("version_0", "hessian"),
        ("version_0", "loss_difference"),
    ]
    # what was measured after the last checkpoint is in no file
    until = [report for report in ours.reports if report.global_step <= 6]
    assert len(until) > 3
    assert told(found[0].reports) == told(until)
    assert told(found[1].reports) == told(r for r in others.reports if r.global_step <= 6)
    paths = {report.global_step: report.ckpt_path for report in found[0].reports}
    assert paths[3] == str(folder / "checkpoints" / "epoch=0-step=3.ckpt")


def test_files_beside_checkpoints_are_enough_and_so_are_checkpoints(
    run: Any, tmp_path: Path
) -> None:
    folder, (ours, _) = run
    for ending in (".json", ".ckpt"):
        shutil.copytree(folder, tmp_path / ending)
        for path in (tmp_path / ending / "checkpoints").iterdir():
            if path.suffix != ending:
                path.unlink()
    (beside,) = read_reports(tmp_path / ".json")
    assert [report.global_step for report in beside.reports] == [3, 6]
    (inside, _) = read_reports(tmp_path / ".ckpt")
    assert [r.global_step for r in inside.reports] == [
        r.global_step for r in ours.reports if r.global_step <= 6
    ]
    # the folder may have moved since: a file beside a checkpoint knows where that is
    assert beside.reports[0].ckpt_path == str(
        tmp_path / ".json" / "checkpoints" / "epoch=0-step=3.ckpt"
    )


def test_a_checkpoint_a_file_and_a_pattern_are_read_alone(run: Any) -> None:
    folder, _ = run
    first = folder / "checkpoints" / "epoch=0-step=3.ckpt"
    steps = {
        str(where): [r.global_step for r in read_reports(where)[0].reports]
        for where in (first, f"{first}.hessian.json", f"{folder}/*/epoch=1*.ckpt")
    }
    assert list(steps.values()) == [[0, 2, 3], [3], [0, 2, 3, 4, 6]]
    (alone,) = read_reports(f"{first}.hessian.json")
    assert alone.run == "version_0"


def test_runs_are_named_from_their_common_folder(tmp_path: Path) -> None:
    for name in ("a/version_0/checkpoints", "a/version_1", "b/version_0"):
        (tmp_path / name).mkdir(parents=True)
        write_sidecar(report_at(5), tmp_path / name / "last.ckpt", name="hessian")
    names = ["a/version_0", "a/version_1", "b/version_0"]
    assert [each.run for each in read_reports(tmp_path)] == names
    assert [each.run for each in read_reports(tmp_path / "a")] == ["version_0", "version_1"]
    several = [tmp_path / "a" / "version_0", tmp_path / "b"]
    assert [each.run for each in read_reports(several)] == ["a/version_0", "b/version_0"]


def test_averaged_weights_and_failures_have_rows_of_their_own(tmp_path: Path) -> None:
    averaged = report_at(4, weights="averaged")
    for name, report in (
        ("hessian", report_at(4)), ("hessian.averaged", averaged), ("mine", failed_at(4)),
    ):  # fmt: skip
        write_sidecar(report, tmp_path / "last.ckpt", name=name)
    hessian, mine = read_reports(tmp_path)
    assert [report.weights for report in hessian.reports] == ["averaged", "current"]
    assert (mine.name, mine.reports[0].failure) == ("mine", "ValueError: no")


def test_a_copy_of_a_report_is_none_of_two_and_the_fullest_is_kept(tmp_path: Path) -> None:
    write_sidecar(report_at(4, density=None), tmp_path / "a.ckpt", name="hessian")
    write_sidecar(report_at(4), tmp_path / "b.ckpt", name="hessian")
    write_sidecar(report_at(4, seconds=7.0), tmp_path / "c.ckpt", name="hessian")
    (found,) = read_reports(tmp_path)
    assert [report.seconds for report in found.reports] == [1.5, 7.0]
    assert found.reports[0].density is not None
    assert found.reports[0].ckpt_path == str(tmp_path / "a.ckpt")


def test_what_cannot_be_read_costs_the_others_nothing(run: Any, tmp_path: Path) -> None:
    folder, _ = run
    whole = read_reports(folder)
    copied = tmp_path / "version_0"
    shutil.copytree(folder, copied)
    values = json.loads(next((copied / "checkpoints").glob("*.hessian.json")).read_text())
    content = torch.load(next((copied / "checkpoints").glob("*.ckpt")), weights_only=True)
    (key,) = (key for key in content["callbacks"] if key.startswith("HessianSpectrum"))
    torch.save(content | {"callbacks": {key: [1, 2]}}, copied / "doctored.ckpt")
    for name, text in {
        "empty": "",
        "other": "{}",
        "older": json.dumps(values | {"format_version": 1}),
        "step": json.dumps(values | {"global_step": "three"}),
        "number": json.dumps(values | {"loss": {"a": 1}}),
    }.items():
        (copied / f"{name}.ckpt.hessian.json").write_text(text, encoding="utf8")
    os.mkfifo(copied / "pipe.ckpt")
    os.mkfifo(copied / "pipe.ckpt.hessian.json")
    (copied / "zero.ckpt.hessian.json").symlink_to("/dev/zero")
    (copied / "junk.ckpt").write_bytes(b"junk")
    with at_most(30), pytest.warns(UserWarning, match="are left out") as warned:
        found = read_reports(copied)
    assert [told(each.reports) for each in found] == [told(each.reports) for each in whole]
    messages = [str(each.message) for each in warned if "left out" in str(each.message)]
    assert len(messages) == 10
    assert any("pipe.ckpt are left out: it is a named pipe, and only" in m for m in messages)


def test_a_folder_without_reports_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"`where` must hold reports .* got .*Measure with `at_che"
    ):
        read_reports(tmp_path)


def test_callbacks_are_known_by_class_and_usual_name() -> None:
    for callback in (spectrum(), LossDifference()):
        kind = KINDS[type(callback).__name__]
        assert kind is callback.report_type
        assert USUAL_NAMES[kind] == callback.name
