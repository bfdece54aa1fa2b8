"""The callback beside the user's own loggers, in a fit."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.loggers.logger import Logger

from lightning_hessian import CriticalPoint, HessianSpectrum, Krylov, LossDifference
from lightning_hessian.show import tagged
from tests.helpers import hard_modules as hard
from tests.helpers.board import Board
from tests.helpers.events import Events
from tests.helpers.fitting import loader, trainer
from tests.helpers.media_loggers import Recording


def fit(*loggers: Logger, with_callback: bool = True, **options: Any) -> HessianSpectrum:
    callback = HessianSpectrum(
        max_overhead=None, on_error="raise", **options, solver=Krylov(max_hvps=24)
    )
    module = hard.seeded(lambda: hard.mlp())
    callbacks = [callback] if with_callback else []
    trainer(*callbacks, max_epochs=2, logger=list(loggers) or False, log_every_n_steps=1).fit(
        module, loader()
    )
    return callback


def board(directory: Path) -> TensorBoardLogger:
    return TensorBoardLogger(directory, name=None, version="run")


def wanted(callback: HessianSpectrum) -> dict[str, list[tuple[int, float]]]:
    points: dict[str, list[tuple[int, float]]] = {}
    for report in callback.reports:
        for tag, value in tagged(report, prefix="hessian").items():
            points.setdefault(tag, []).append((report.global_step, value))
    return points


def assert_same_points(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for tag, pairs in expected.items():
        # TensorBoard keeps float32
        np.testing.assert_allclose(found[tag], pairs, rtol=1e-6)


def test_tensorboard_holds_every_number_at_the_optimisers_step(tmp_path: Path) -> None:
    callback = fit(board(tmp_path), scalars="all")
    events = Events(tmp_path / "run")
    assert_same_points(events.scalars("hessian"), wanted(callback))
    assert [step for step, _ in events.images("hessian/spectrum")] == [0, 4, 8]
    assert events.texts("hessian/failure") == []


def test_the_users_own_points_are_untouched(tmp_path: Path) -> None:
    fit(board(tmp_path / "with"))
    fit(board(tmp_path / "without"), with_callback=False)
    beside = Events(tmp_path / "with" / "run").scalars()
    alone = Events(tmp_path / "without" / "run").scalars()
    own = {tag: points for tag, points in beside.items() if not tag.startswith("hessian")}
    assert own == alone
    assert own.keys() == {"train_loss", "epoch"}


def test_two_boards_hold_the_same(tmp_path: Path) -> None:
    callback = fit(board(tmp_path / "a"), board(tmp_path / "b"), scalars="all")
    for name in ("a", "b"):
        events = Events(tmp_path / name / "run")
        assert_same_points(events.scalars("hessian"), wanted(callback))
        assert len(events.layouts()) == 1


def test_a_logger_of_another_kind_gets_exactly_the_scalars() -> None:
    logger = Recording()
    callback = fit(logger)
    ours = [
        (step, metrics)
        for metrics, step in logger.rows
        if any(tag.startswith("hessian/") for tag in metrics)
    ]
    assert ours == [
        (report.global_step, tagged(report, prefix="hessian", amount="few"))
        for report in callback.reports
    ]


def test_a_csv_file_gets_the_scalars_in_columns(tmp_path: Path) -> None:
    callback = fit(CSVLogger(tmp_path, name=None, version="run"), scalars="all")
    with (tmp_path / "run" / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["hessian/eig_1"]]
    assert [int(row["step"]) for row in rows] == [0, 4, 8]
    for row, report in zip(rows, callback.reports, strict=True):
        for tag, value in tagged(report, prefix="hessian").items():
            assert float(row[tag]) == value


def test_no_logger_means_reports_only() -> None:
    assert [report.global_step for report in fit().reports] == [0, 4, 8]


def test_custom_scalars_can_be_left_out(tmp_path: Path) -> None:
    fit(board(tmp_path), custom_scalars=False)
    assert Board.read(tmp_path).custom_scalars == {}


@pytest.mark.parametrize("kind", [HessianSpectrum, CriticalPoint, LossDifference])
def test_how_many_numbers_are_logged_is_one_of_two_words(kind: Any) -> None:
    with pytest.raises(ValueError, match=r"`scalars` must be 'few' or 'all', got 'none'. Take"):
        kind(scalars="none")
