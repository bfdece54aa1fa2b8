"""On a disk that fills up, a fit ends as it does without the callback."""

from __future__ import annotations

import errno
import multiprocessing
import resource
import shutil
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from tensorboard.summary.writer.record_writer import RecordWriter

from lightning_hessian import HessianSpectrum, Krylov
from lightning_hessian.errors import NoRoomError
from lightning_hessian.fit.room import SPARE, Room
from lightning_hessian.show import ReportWriter
from tests.helpers.events import Events
from tests.helpers.fitting import Classifier, loader, trainer
from tests.helpers.reports import report_at
from tests.helpers.spectrum import spectrum, steps

TOLD = "could not write its report.*Nothing more is written in this fit; the history travels"
FULL = OSError(errno.ENOSPC, "No space left on device")
# the thread of the event writer raises its error there too
THREAD = "ignore::pytest.PytestUnhandledThreadExceptionWarning"


def at_saves(**options: Any) -> HessianSpectrum:
    return spectrum(
        every_n_epochs=None,
        every_n_train_steps=2,
        at_checkpoints=True,
        density=True,
        on_error="warn",
        solver=Krylov(max_hvps=24),
        **options,
    )


def fit(directory: Path, *callbacks: pl.Callback, **options: Any) -> pl.Trainer:
    torch.manual_seed(4)
    saver = ModelCheckpoint(
        directory / "saved", every_n_train_steps=3, save_top_k=-1, save_last="link"
    )
    defaults = {
        "max_epochs": 2,
        "log_every_n_steps": 1,
        "logger": TensorBoardLogger(directory, name=None, version="run"),
    }
    run = trainer(*callbacks, saver, enable_checkpointing=True, **(defaults | options))
    run.fit(Classifier(), loader())
    return run


def said(told: list[warnings.WarningMessage]) -> list[str]:
    return [str(each.message) for each in told if "could not write" in str(each.message)]


class Disk(NamedTuple):
    total: int
    used: int
    free: int


@pytest.mark.sampled
@pytest.mark.parametrize("logger", ["two", "tensorboard", "csv", "none"])
def test_with_little_room_nothing_is_written_and_it_is_said_once(
    logger: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def usage(_: Any) -> Disk:
        return Disk(2 * SPARE, SPARE, SPARE if callback.reports[2:] else 2 * SPARE)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    board = TensorBoardLogger(tmp_path, name=None, version="run")
    table = CSVLogger(tmp_path, name=None, version="run")
    loggers = {"tensorboard": board, "csv": table, "two": [board, table], "none": False}
    callback = at_saves()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        fit(tmp_path, callback, logger=loggers[logger])
    (text,) = said(told)
    # a checkpoint of 51 weights of four bytes, with three times as much beside
    assert "67 MB are free on the disk of" in text
    assert "Nothing more is written in this fit; the history travels in its checkpoints" in text
    assert steps(callback) == [0, 2, 3, 4, 6, 8]
    # of the third report on nothing is written
    beside = {path.name for path in (tmp_path / "saved").glob("*.json")}
    assert beside == set()
    if logger in ("tensorboard", "two"):
        points = Events(tmp_path / "run").scalars()
        assert [step for step, _ in points["hessian/eig_1"]] == [0, 2]
        assert len(points["train_loss"]) == 8
    if logger in ("csv", "two"):
        rows = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
        place = rows[0].split(",").index("hessian/eig_1")
        assert sum(bool(row.split(",")[place]) for row in rows[1:]) == 2
    # reports go on in memory and in checkpoints
    state = torch.load(tmp_path / "saved" / "last.ckpt", weights_only=True)["callbacks"]
    (inside,) = (value for key, value in state.items() if "Hessian" in key)
    assert [report["global_step"] for report in inside["reports"]] == [0, 2, 3, 4, 6]


def test_on_a_full_disk_checkpoints_are_the_runs_own_and_the_next_fit_writes_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    callback = spectrum(on_error="warn")
    with monkeypatch.context() as patch, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        patch.setattr(shutil, "disk_usage", lambda _: Disk(SPARE, SPARE, 0))
        fit(tmp_path / "a", callback)
    assert len(said(told)) == 1
    (why,) = (str(each.message) for each in told if "no part in this" in str(each.message))
    assert "NoRoomError: 0 MB are free on the disk of" in why
    assert "Nor has any later one that finds as little room" in why
    saved = torch.load(tmp_path / "a" / "saved" / "last.ckpt", weights_only=True)
    assert not any("Hessian" in key for key in saved["callbacks"])
    fit(tmp_path / "b", callback, max_epochs=4)
    assert "hessian/eig_1" in Events(tmp_path / "b" / "run").scalars()


def test_what_is_as_large_as_the_weights_travels_where_there_is_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    callback = HessianSpectrum()
    run = trainer(ModelCheckpoint("anywhere"), enable_checkpointing=True)
    run.strategy.connect(Classifier())
    callback._recorder.room.begin(run)
    study = {"vectors": torch.ones(3, 1)}
    weights = 4 * 51
    for free, wanted in ((SPARE + 4 * weights, study), (SPARE + 4 * weights - 1, {})):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: Disk(2 * SPARE, 0, free))
        assert callback._recorder.state(None, study)["study"] == wanted


class Filling:
    """A file system of which every writer of events sees the end after so many bytes of ours."""

    def __init__(self, room: int) -> None:
        self.room = room

    def write(self, inner: Any) -> Any:
        def write(writer: Any, data: bytes) -> None:
            if b"hessian" in data:
                self.room -= len(data)
                if self.room < 0:
                    # as a disk does: a part of it
                    writer._writer.write(data[: len(data) // 2])
                    raise OSError(*FULL.args)
            inner(writer, data)

        return write


def is_whole(path: Path) -> bool:
    """Whether a file of events ends where a record does: a length, the record, two checksums."""
    content, end = path.read_bytes(), 0
    while end < len(content):
        end += 16 + int.from_bytes(content[end : end + 8], "little")
    return end == len(content)


@pytest.mark.sampled
@pytest.mark.filterwarnings(THREAD)
@pytest.mark.parametrize("room", [5_000, 0, 700, 30_000])
def test_an_event_of_ours_that_finds_no_room_leaves_the_users_writer_whole(
    room: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def points(directory: Path) -> dict[str, Any]:
        found = [Events(path).scalars() for path in by_file(directory)]
        tags = {tag for each in found for tag in each if not tag.startswith("hessian")}
        return {tag: [p for each in found for p in each.get(tag, [])] for tag in tags}

    def by_file(directory: Path) -> Iterator[Path]:
        for number, path in enumerate(sorted(directory.glob("*tfevents*"))):
            (alone := directory / f"{number}").mkdir()
            shutil.copy(path, alone)
            yield alone

    fit(tmp_path / "bare")
    monkeypatch.setattr(RecordWriter, "write", Filling(room).write(RecordWriter.write))
    callback = at_saves()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        run = fit(tmp_path / "full", callback)
    assert len(said(told)) == 1
    assert "a disk took no more" in said(told)[0]
    assert steps(callback) == [0, 2, 3, 4, 6, 8]
    # the user's points are all there, and their writer takes more
    run.logger.experiment.add_scalar("mine", 1.0, 12)  # type: ignore[union-attr]
    run.logger.experiment.flush()  # type: ignore[union-attr]
    assert all(map(is_whole, (tmp_path / "full" / "run").glob("*tfevents*")))
    with_ours = points(tmp_path / "full" / "run")
    assert with_ours.pop("mine") == [(12, 1.0)]
    assert with_ours == points(tmp_path / "bare" / "run")


@pytest.mark.filterwarnings(THREAD)
def test_an_error_of_the_users_own_events_stays_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise OSError(*FULL.args)

    logger = TensorBoardLogger(tmp_path, name=None, version="run")
    logger.experiment.flush()
    with monkeypatch.context() as patch:
        patch.setattr(RecordWriter, "write", fails)
        logger.experiment.add_scalar("mine", 1.0)
        with pytest.raises(OSError, match="No space left"):
            logger.experiment.flush()
    # its thread tells of the error while this test is running, and not of a later one's
    logger.experiment.file_writer.event_writer._async_writer._worker.join()
    with pytest.raises(OSError, match="No space left"):
        ReportWriter(prefix="hessian", amount="all", custom_scalars=False).write(
            [logger], report_at()
        )
    with pytest.raises(OSError, match="No space left"):
        logger.experiment.add_scalar("mine", 2.0)


def test_what_is_no_lack_of_room_is_told_each_time() -> None:
    def fails() -> None:
        raise PermissionError(errno.EACCES, "no")

    room = Room()
    for _ in range(2):
        with pytest.raises(PermissionError):
            room.write(fails, [])


def test_a_disk_that_does_not_tell_its_size_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room, done = Room(), []
    room.begin(trainer())
    for total in (0, 1):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, total=total: Disk(total, 0, 0))
        with pytest.raises(NoRoomError) if total else nullcontext():
            # not there yet, and elsewhere
            room.write(lambda: done.append(1), [tmp_path / "a" / "b", None, "s3://bucket"])
    assert done == [1]


def in_child(directory: str, ours: bool) -> None:
    # above what the run's own files take, below what ours would bring its event file to
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, resource.RLIM_INFINITY))
    warnings.simplefilter("ignore")
    run = fit(Path(directory), *([at_saves()] if ours else []))
    module = run.lightning_module
    torch.save([run.global_step, module.state_dict()], Path(directory) / "end.pt")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_files_that_may_grow_no_more_end_no_fit(tmp_path: Path) -> None:
    context: Any = multiprocessing.get_context("fork")
    found = []
    for name in ("with", "without"):
        child = context.Process(target=in_child, args=(str(tmp_path / name), name == "with"))
        child.start()
        child.join()
        assert child.exitcode == 0
        found.append(torch.load(tmp_path / name / "end.pt", weights_only=True))
    assert str(found[0]) == str(found[1])
    sizes = [path.stat().st_size for path in (tmp_path / "with" / "run").glob("*tfevents*")]
    assert len(sizes) == 2  # that of ours was cut, and the writer began another
    assert max(sizes) < 40_000
