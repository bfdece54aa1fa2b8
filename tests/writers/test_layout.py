"""The Custom Scalars page: in the run itself, and never instead of the user's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.data.server_ingester import NoDataServerError, get_server_binary

from lightning_hessian import CriticalPoint, HessianSpectrum, LossDifference
from lightning_hessian.records import Report
from lightning_hessian.show import ReportWriter, layout, tagged
from tests.helpers.board import Board
from tests.helpers.critical_points import point_at
from tests.helpers.events import Events
from tests.helpers.fitting import Classifier, loader, trainer
from tests.helpers.loss_difference_reports import difference_report
from tests.helpers.reports import failed_at, report_at

OURS = "hessian: Hessian of the training loss"
MINE = {"mine": {"a": ["Multiline", ["train_loss"]]}}


def _has_fast_reader() -> bool:
    try:
        get_server_binary()
    except NoDataServerError:
        return False
    return True


@pytest.fixture(
    params=[
        False,
        pytest.param(
            True,
            marks=pytest.mark.skipif(not _has_fast_reader(), reason="no server for this platform"),
        ),
    ],
    ids=["slow reader", "fast reader"],
)
def board(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Board]:
    """What TensorBoard has read once it is started."""
    return lambda: Board.read(tmp_path, fast=request.param)


def logger_at(directory: Path | str, run: str = "run") -> TensorBoardLogger:
    return TensorBoardLogger(directory, name=None, version=run)


def write(logger: TensorBoardLogger, *reports: Report, name: str = "hessian") -> None:
    writer = ReportWriter(prefix=name, amount="few", custom_scalars=True)
    for report in reports:
        writer.write([logger], report)


def add_mine(logger: TensorBoardLogger, charts: Any = None) -> None:
    logger.experiment.add_custom_scalars(MINE if charts is None else charts)
    logger.experiment.flush()


def test_the_page_is_of_intervals_and_in_the_run_itself(
    tmp_path: Path, board: Callable[[], Board]
) -> None:
    write(logger_at(tmp_path), report_at(0), report_at(1))
    found = board()
    assert found.runs == {"run"}
    (charts,) = found.custom_scalars.values()
    assert list(charts) == [
        "trace and its 95 % interval",
        "share of negative eigenvalues",
        "largest eigenvalue and its 95 % interval",
    ]  # charts with a margin are shown from the last to the first
    (series,) = charts["largest eigenvalue and its 95 % interval"]["margin"]["series"]
    assert series == {
        "value": "hessian/eig_1",
        "lower": "hessian_errors/eig_1_lower",
        "upper": "hessian_errors/eig_1_upper",
    }


def test_the_charts_find_their_tags_among_the_few(tmp_path: Path) -> None:
    write(logger_at(tmp_path), report_at(3))
    tags = Events(tmp_path / "run").tags["scalars"]
    for chart in Board.read(tmp_path).custom_scalars[OURS].values():
        assert set(chart["margin"]["series"][0].values()) <= tags


def test_a_layout_written_before_ours_is_seen_beside_it(
    tmp_path: Path, board: Callable[[], Board]
) -> None:
    logger = logger_at(tmp_path)
    add_mine(logger)
    write(logger, report_at())
    assert list(board().custom_scalars) == ["mine", OURS]


def test_a_layout_written_after_ours_is_seen(tmp_path: Path, board: Callable[[], Board]) -> None:
    logger = logger_at(tmp_path)
    write(logger, report_at(0))
    add_mine(logger)
    write(logger, report_at(5), name="top")
    found = board().custom_scalars
    assert list(found["mine"]["a"]["multiline"]["tag"]) == ["train_loss"]
    assert list(found) == ["mine", "top: Hessian of the training loss"]


def test_a_layout_of_the_process_before_a_resume_is_seen(
    tmp_path: Path, board: Callable[[], Board]
) -> None:
    first = logger_at(tmp_path)
    add_mine(first)
    write(first, report_at(0))
    first.experiment.close()
    write(logger_at(tmp_path), report_at(5))
    assert list(board().custom_scalars) == ["mine", OURS]


def test_of_two_layouts_of_the_users_the_later_one_counts(tmp_path: Path) -> None:
    logger = logger_at(tmp_path)
    add_mine(logger)
    add_mine(logger, {"later": {"b": ["Multiline", ["val_loss"]]}})
    write(logger, report_at())
    assert list(Board.read(tmp_path).custom_scalars) == ["later", OURS]


def test_other_callbacks_and_other_runs_add_their_pages_once(tmp_path: Path) -> None:
    for run in ("a", "b"):
        logger = logger_at(tmp_path, run)
        write(logger, report_at())
        write(logger, difference_report(), name="loss_difference")
        write(logger, point_at(), name="critical_point")
    found = Board.read(tmp_path)
    assert found.runs == {"a", "b"}
    pages = found.custom_scalars
    assert [title.partition(":")[0] for title in pages] == [
        "hessian",
        "loss_difference",
        "critical_point",
    ]
    assert all(len(charts) <= 3 for charts in pages.values())


def test_a_page_that_is_there_is_not_written_again(tmp_path: Path) -> None:
    logger = logger_at(tmp_path)
    write(logger, report_at(0))
    write(logger, report_at(1))  # a writer of its own, as after a resume
    assert len(Events(tmp_path / "run").layouts()) == 1


def test_a_chart_comes_with_the_first_number_that_it_can_show(tmp_path: Path) -> None:
    logger = logger_at(tmp_path)
    reports = [report_at(0, trace=None, negative_mass=None), report_at(1, negative_mass=None)]
    seen = []
    for report in (*reports, report_at(2)):
        # of processes of their own, as after a resume: what is there stays
        write(logger, report)
        seen.append({title.split()[0] for title in Board.read(tmp_path).custom_scalars[OURS]})
    assert seen == [{"largest"}, {"largest", "trace"}, {"largest", "trace", "share"}]
    write(logger, reports[0])
    assert len(Events(tmp_path / "run").layouts()) == 3


def test_a_chart_that_comes_later_leaves_a_layout_of_the_users_between(tmp_path: Path) -> None:
    logger = logger_at(tmp_path)
    writer = ReportWriter(prefix="hessian", amount="few", custom_scalars=True)
    writer.write([logger], report_at(0, trace=None))
    add_mine(logger)
    writer.write([logger], report_at(1, trace=None))
    assert list(Board.read(tmp_path).custom_scalars) == ["mine"]
    writer.write([logger], report_at(2))
    found = Board.read(tmp_path).custom_scalars
    assert list(found) == ["mine", OURS]
    assert len(found[OURS]) == 3


def test_a_page_of_charts_waits_for_numbers(tmp_path: Path) -> None:
    write(logger_at(tmp_path), failed_at(5))
    assert Board.read(tmp_path).custom_scalars == {}


def test_files_too_large_to_look_through_get_no_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "LARGEST", 100)
    logger = logger_at(tmp_path)
    add_mine(logger)
    write(logger, report_at())
    assert list(Board.read(tmp_path).custom_scalars) == ["mine"]
    assert "hessian/eig_1" in Events(tmp_path / "run").tags["scalars"]


def test_a_record_that_is_cut_off_ends_the_search(tmp_path: Path) -> None:
    first = logger_at(tmp_path)
    add_mine(first)
    first.experiment.add_scalar("x", 1.0)
    first.experiment.close()
    (file,) = (tmp_path / "run").glob("*tfevents*")
    file.write_bytes(file.read_bytes()[:-3])
    write(logger_at(tmp_path), report_at())
    assert list(Board.read(tmp_path).custom_scalars) == ["mine", OURS]


def test_a_runs_name_may_look_like_a_pattern(tmp_path: Path) -> None:
    logger = logger_at(tmp_path, "lr=[0.1]*")
    add_mine(logger)
    write(logger, report_at())
    assert list(Board.read(tmp_path).custom_scalars) == ["mine", OURS]


def test_a_folder_elsewhere_is_looked_through_too(tmp_path: Path) -> None:
    logger = logger_at("memory://layouts")
    add_mine(logger)
    write(logger, report_at())
    disk = fsspec.filesystem("memory")
    disk.get("/layouts/run", str(tmp_path / "run"), recursive=True)
    assert list(Board.read(tmp_path).custom_scalars) == ["mine", OURS]


def test_it_can_be_left_out(tmp_path: Path) -> None:
    writer = ReportWriter(prefix="hessian", amount="few", custom_scalars=False)
    writer.write([logger_at(tmp_path)], report_at())
    assert Board.read(tmp_path).custom_scalars == {}


def test_a_run_at_the_defaults_is_one_run_in_tensorboard(
    tmp_path: Path, board: Callable[[], Board]
) -> None:
    callbacks = [HessianSpectrum(), CriticalPoint(), LossDifference()]
    trainer(*callbacks, max_epochs=4, logger=logger_at(tmp_path)).fit(Classifier(), loader())
    found = board()
    assert found.runs == {"run"}
    assert len(found.custom_scalars) == 3
    assert (
        tagged(callbacks[0].reports[-1], prefix="hessian", amount="few").keys()
        <= (Events(tmp_path / "run").tags["scalars"])
    )
