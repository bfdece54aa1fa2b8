"""Trainings that the tests of the tab look at, made once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torch.utils.tensorboard import SummaryWriter

from examples.board import Board, served
from examples.browser import CHROMIUM, Visit, chromium_browser, visiting
from tests.helpers.tab import RATES, Training, train


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of logs: three trainings, and before them one without our callbacks."""
    folder = tmp_path_factory.mktemp("logs")
    with SummaryWriter(str(folder / "a_run_without")) as writer:
        writer.add_scalar("train_loss", 1.0, 0)
    return folder


@pytest.fixture(scope="package")
def trainings(folder: Path) -> list[Training]:
    """Three learning rates, in the folder."""
    return [train(folder, f"lr_{rate}", rate) for rate in RATES]


@pytest.fixture(scope="package")
def board(
    folder: Path, trainings: list[Training], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Board]:
    """TensorBoard over the folder of three trainings."""
    with served(folder, tmp_path_factory.mktemp("board")) as board:
        board.wait_for(lambda it: len(it.get("data/plugin/hessian/series")) == 3, "three runs")
        yield board


@pytest.fixture(scope="package")
def chromium() -> Iterator[Any]:
    """One for all tests that look."""
    missing = "no browser is driven: `pip install playwright` brings what does"
    pytest.importorskip("playwright.sync_api", reason=missing)
    if not Path(CHROMIUM).is_file():
        pytest.skip(f"no browser at {CHROMIUM}: `apt-get install chromium` brings it")
    with chromium_browser() as browser:
        yield browser


@pytest.fixture(scope="package")
def opened(chromium: Any, board: Board) -> Iterator[Visit]:
    """TensorBoard with its tab of the three trainings, loaded once."""
    with visiting(chromium, board.url) as visit:
        visit.open_tab()
        yield visit


@pytest.fixture
def visit(opened: Visit) -> Iterator[Visit]:
    """The tab as it is at first; nothing may have gone wrong when the test is over."""
    opened.begin_anew()
    yield opened
    assert opened.wrong == []
