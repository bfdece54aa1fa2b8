"""Pictures, densities and the page, in those loggers beside TensorBoard's that take them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.loggers.logger import DummyLogger

from lightning_hessian.show import PictureWriter, give_page
from lightning_hessian.show.media import histograms
from tests.helpers.media_loggers import (
    Recording,
    comet_logger,
    mlflow_logger,
    wandb_logger,
    wandb_module,
)
from tests.helpers.pages import Page
from tests.helpers.reports import density_at, failed_at, report_at

PICTURE = np.zeros((4, 6, 3), dtype=np.uint8)
IMAGES = {"spectrum": PICTURE}
REPORTS = [report_at(0), failed_at(4), report_at(8)]


@pytest.fixture(autouse=True)
def wandb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", wandb_module())


def steps_in(page: str) -> list[int]:
    (run,) = Page(page).data
    assert run["name"] == "this training"
    assert {entry["callback"] for entry in run["entries"]} == {"hessian/train"}
    return [entry["step"] for entry in run["entries"]]


def test_wandb_gets_media_as_it_gets_numbers_each_with_lightnings_step() -> None:
    logger, writer = wandb_logger(), PictureWriter(prefix="hessian/train")
    writer.write([logger], 8, IMAGES)
    give_page([logger], {"hessian/train": REPORTS})
    ((step, (kind, image)),) = logger.values("hessian/train/spectrum")
    assert (step, kind) == (8, "image")
    assert image is PICTURE
    ((step, (kind, page, options)),) = logger.values("hessian/train/page")
    assert (step, kind) == (8, "html")
    # else W&B adds a style sheet from its own server
    assert options == {"inject": False, "data_is_not_path": True}
    assert steps_in(page) == [0, 4, 8]
    assert logger.experiment.calls == []


def test_mlflow_gets_artifacts_of_its_run() -> None:
    logger, writer = mlflow_logger(), PictureWriter(prefix="hessian/train")
    writer.write([logger], 8, IMAGES)
    give_page([logger], {"hessian/train": REPORTS})
    (picture, text) = logger.experiment.calls
    file = "hessian/train/spectrum_step_00000008.png"
    assert picture == ("log_image", ("run 7", PICTURE), {"artifact_file": file})
    assert (text[0], text[1][0], text[1][2]) == ("log_text", "run 7", "hessian/train.html")
    assert steps_in(text[1][1]) == [0, 4, 8]
    assert logger.rows == []


def test_comet_gets_graphics_and_an_asset() -> None:
    logger, writer = comet_logger(), PictureWriter(prefix="hessian/train")
    writer.write([logger], 8, IMAGES)
    give_page([logger], {"hessian/train": REPORTS})
    (picture, asset) = logger.experiment.calls
    assert picture == ("log_image", (PICTURE,), {"name": "hessian/train/spectrum", "step": 8})
    assert asset[0] == "log_asset_data"
    assert asset[2] == {"name": "hessian/train.html", "step": 8, "overwrite": True}
    assert steps_in(asset[1][0]) == [0, 4, 8]


def test_other_loggers_get_none_and_no_page_is_made_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> str:
        raise AssertionError

    monkeypatch.setattr("lightning_hessian.show.media.pages.page_html", fail)
    others = [
        TensorBoardLogger(tmp_path),
        CSVLogger(tmp_path),
        DummyLogger(),
        Recording(),
    ]
    writer = PictureWriter(prefix="hessian/train")
    writer.write(others, 8, IMAGES)
    give_page(others, {"hessian/train": REPORTS})
    assert not list(tmp_path.rglob("*.html"))
    assert others[-1].rows == []  # type: ignore[attr-defined]


def test_a_logger_that_fails_hinders_no_other_and_is_told_of_once() -> None:
    broken, whole = comet_logger(fails=True), mlflow_logger()
    writer = PictureWriter(prefix="hessian/train")
    words = r"Recording took no picture of it, and is given none any more \(ConnectionError: log_im"
    with pytest.raises(RuntimeError, match=words):
        writer.write([broken, whole], 4, IMAGES)
    writer.write([broken, whole], 8, IMAGES)
    # the network may be there again at the end of a fit
    with pytest.raises(RuntimeError, match=r"Recording took no page of the reports \(Connection"):
        give_page([broken, whole], {"hessian/train": REPORTS})
    assert [name for name, *_ in whole.experiment.calls] == ["log_image", "log_image", "log_text"]


def test_the_density_in_wandb_counts_all_eigenvalues_where_they_are() -> None:
    row = histograms(wandb_logger(), report_at(3), prefix="hessian")
    ((key, (kind, (counts, edges))),) = row.items()
    assert (key, kind) == ("hessian/density", "histogram")
    assert counts.sum() == pytest.approx(1000)
    # a tenth of the mass at each end, the rest at zero
    assert (edges[0], edges[-1]) == (-1, 4)
    assert counts[0] == pytest.approx(100)
    assert counts[-1] == pytest.approx(100)
    zero = np.searchsorted(edges, 0.0, side="right") - 1
    assert counts[zero] == pytest.approx(800)


@pytest.mark.parametrize("nodes", [(0.0,), (2.0, 2.0 + 1e-15), (-1e-30, -1e-30)])
def test_a_density_of_one_value_has_a_histogram(nodes: tuple[float, ...]) -> None:
    report = report_at(3, density=density_at(*nodes))
    ((_, (_, (counts, edges))),) = histograms(wandb_logger(), report, prefix="hessian").items()
    assert counts.sum() == pytest.approx(1000)
    assert (np.diff(edges) > 0).all()


def test_without_a_density_or_elsewhere_there_is_no_histogram() -> None:
    assert histograms(wandb_logger(), report_at(3, density=None), prefix="hessian") == {}
    assert histograms(wandb_logger(), failed_at(3), prefix="hessian") == {}
    assert histograms(mlflow_logger(), report_at(3), prefix="hessian") == {}
