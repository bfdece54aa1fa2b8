"""Entries and losses as they are read of event files: in the process, and by the data server."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tensorboard.compat.proto.summary_pb2 import DATA_CLASS_TENSOR, Summary, SummaryMetadata
from tensorboard.util.tensor_util import make_tensor_proto
from torch.utils.tensorboard import SummaryWriter

from examples.board import served
from lightning_hessian.show.tab_entry import entry_bytes, tab_entry
from lightning_hessian.tab import PLUGIN_NAME
from tests.helpers.board_application import Application
from tests.helpers.events import Events
from tests.helpers.reports import report_at
from tests.helpers.tab import Training, write_bytes, write_reports

Get = Callable[..., Any]
READERS = ("multiplexer", "data server")


@contextmanager
def reading(reader: str, logs: Path, scratch: Path, *flags: str) -> Iterator[Get]:
    """What the tab's server answers, by TensorBoard's own two readers of event files."""
    if reader == "multiplexer":
        app = Application(logs, *flags)
        yield lambda path, **query: app.get(f"plugin/hessian/{path}", **query).get_json()
        return
    # which fails, and does not fall back, where there is no such server
    with served(logs, scratch, "--load_fast=true", "--reload_interval=1", *flags) as board:
        board.wait_for(lambda it: it.get("data/plugin/hessian/series"), "data")
        yield lambda path, **query: board.get(f"data/plugin/hessian/{path}", **query)


@pytest.mark.parametrize("reader", READERS)
def test_every_report_of_every_callback_is_read(
    reader: str, folder: Path, trainings: list[Training], tmp_path: Path
) -> None:
    with reading(reader, folder, tmp_path) as get:
        series = get("series")
        assert list(series) == sorted(training.name for training in trainings)
        for training in trainings:
            tags = {f"{name}/report" for name in training.reports}
            assert series[training.name].keys() == tags
            read = get("entries", run=training.name)
            assert read["problems"] == []
            for name, reports in training.reports.items():
                mine = [entry for entry in read["entries"] if entry["callback"] == name]
                assert mine == [tab_entry(report, name=name) for report in reports]


@pytest.mark.parametrize("reader", READERS)
def test_the_users_own_losses_are_read_and_ours_are_not(
    reader: str, folder: Path, trainings: list[Training], tmp_path: Path
) -> None:
    with reading(reader, folder, tmp_path) as get:
        for training in trainings:
            losses = get("losses", run=training.name)
            assert list(losses) == ["train_loss"]
            assert [step for step, _ in losses["train_loss"]] == list(range(12))


@pytest.mark.parametrize("reader", READERS)
def test_all_of_many_reports_are_read_and_as_many_as_the_user_says(
    reader: str, tmp_path: Path
) -> None:
    count = 120
    write_reports(tmp_path / "logs" / "run", *map(report_at, range(count)))

    def steps(*flags: str) -> list[int]:
        with reading(reader, tmp_path / "logs", tmp_path, *flags) as get:
            return [entry["step"] for entry in get("entries", run="run")["entries"]]

    assert steps() == list(range(count))
    few = steps("--samples_per_plugin=hessian=5,images=3")
    assert len(few) == 5
    assert few[-1] == count - 1


@pytest.mark.parametrize("reader", READERS)
def test_a_loss_that_is_no_number_is_read_as_none(reader: str, tmp_path: Path) -> None:
    run = tmp_path / "logs" / "run"
    write_reports(run, report_at(0))
    with SummaryWriter(str(run)) as writer:
        for step, value in enumerate((1.0, math.inf, math.nan)):
            writer.add_scalar("train/Loss", value, step)
        writer.add_scalar("accuracy", 1.0, 0)
    with reading(reader, tmp_path / "logs", tmp_path) as get:
        assert get("losses", run="run") == {"train/Loss": [[0, 1.0], [1, None], [2, None]]}


def test_an_entry_of_no_time_hides_no_run(tmp_path: Path) -> None:
    write_reports(tmp_path / "logs" / "run", report_at(0))
    with SummaryWriter(str(tmp_path / "logs" / "odd")) as writer:
        entry = entry_bytes(tab_entry(report_at(0), name="hessian"))
        value = tensor_value("hessian/report", entry)
        writer.file_writer.add_summary(Summary(value=[value]), 0, walltime=math.nan)
    # the data server passes over such an event
    series = Application(tmp_path / "logs").get("plugin/hessian/series").get_json()
    assert series["odd"] == {"hessian/report": None}
    assert series["run"]["hessian/report"] > 0


@pytest.mark.parametrize("reader", READERS)
def test_a_run_that_nobody_knows_has_nothing(reader: str, tmp_path: Path) -> None:
    write_reports(tmp_path / "logs" / "run", report_at(0))
    with reading(reader, tmp_path / "logs", tmp_path) as get:
        assert get("entries", run="another") == {"entries": [], "problems": []}
        assert get("losses", run="another") == {}


def tensor_value(tag: str, content: Any) -> Any:
    """Any tensor under our plugin's name."""
    metadata = SummaryMetadata(
        plugin_data=SummaryMetadata.PluginData(plugin_name=PLUGIN_NAME),
        data_class=DATA_CLASS_TENSOR,
    )
    return Summary.Value(tag=tag, metadata=metadata, tensor=make_tensor_proto(content))


def of_another_plugin(run: Path) -> None:
    """Tensors of a stranger's that calls itself as we do: a number, a matrix, a cut entry."""
    with SummaryWriter(str(run)) as writer:
        for step, content in enumerate((1.0, [[1.0, 2.0], [3.0, 4.0]], [b"{", b"[]"])):
            value = tensor_value(f"theirs/{step}", content)
            writer.file_writer.add_summary(Summary(value=[value]), step)


@pytest.mark.parametrize("reader", READERS)
def test_what_others_wrote_under_our_name_is_told_once_and_hides_nothing(
    reader: str, tmp_path: Path
) -> None:
    run = tmp_path / "logs" / "run"
    write_reports(run, report_at(0), report_at(7))
    of_another_plugin(run)
    write_bytes(run, b'{"format": 99}', tag="later/report")
    with reading(reader, tmp_path / "logs", tmp_path) as get:
        read = get("entries", run="run")
    assert [entry["step"] for entry in read["entries"]] == [0, 7]
    problems = sorted(read["problems"])
    assert [words.split(":")[0] for words in problems] == [
        "an entry has no `format`.",
        "an entry is in format 99, of another lightning_hessian; this one reads format 1. "
        "Open it with that version.",
        "an entry is no JSON",
    ]


def test_a_run_that_is_still_written_is_read_as_far_as_it_is(tmp_path: Path) -> None:
    run = tmp_path / "logs" / "run"
    write_reports(run, *map(report_at, range(3)))
    (file,) = run.iterdir()
    # a report of which half is on the disk
    os.truncate(file, file.stat().st_size - 500)
    with reading("data server", tmp_path / "logs", tmp_path) as get:
        assert [entry["step"] for entry in get("entries", run="run")["entries"]] == [0, 1]
    app = Application(tmp_path / "logs")
    read = app.get("plugin/hessian/entries", run="run").get_json()
    assert [entry["step"] for entry in read["entries"]] == [0, 1]


def test_an_entry_stands_in_the_event_file_as_a_tensor_of_our_plugin(
    trainings: list[Training], folder: Path
) -> None:
    accumulator = Events(folder / trainings[0].name)
    for name in trainings[0].reports:
        metadata = accumulator.metadata(f"{name}/report")
        assert metadata.plugin_data.plugin_name == "hessian"
        assert metadata.data_class == DATA_CLASS_TENSOR


@pytest.mark.parametrize("reader", READERS)
def test_entries_come_in_the_order_in_which_they_were_written(reader: str, tmp_path: Path) -> None:
    """Of a training that began anew in its folder the page drops what stands behind the new one."""
    logs = tmp_path / "logs"
    for step in (30, 10, 20):
        content = entry_bytes(tab_entry(report_at(step), name="hessian"))
        write_bytes(logs / "run", content, step=step)
        time.sleep(1.1)  # the files are told apart, and put in order, by seconds
    # the data server drops by itself what a smaller step has made void
    wanted = [30, 10, 20] if reader == "multiplexer" else [10, 20]
    with reading(reader, logs, tmp_path) as get:
        found = get("entries", run="run")["entries"]
        assert [entry["step"] for entry in found] == wanted
