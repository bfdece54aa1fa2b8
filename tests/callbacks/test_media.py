"""Pictures and the page in a fit, beside loggers that take such."""

from __future__ import annotations

import random
import sys
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch

from lightning_hessian import CriticalPoint
from lightning_hessian.errors import NoRoomError
from lightning_hessian.fit.room import Room
from tests.helpers.fitting import Classifier, loader, trainer
from tests.helpers.media_loggers import (
    comet_logger,
    mlflow_logger,
    wandb_logger,
    wandb_module,
)
from tests.helpers.pages import Page
from tests.helpers.spectrum import spectrum, steps


@pytest.fixture(autouse=True)
def wandb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", wandb_module())


def fit(*callbacks: pl.Callback, logger: Any, **options: Any) -> pl.Trainer:
    torch.manual_seed(4)
    run = trainer(*callbacks, logger=logger, log_every_n_steps=1, **({"max_epochs": 4} | options))
    run.fit(Classifier(), loader())
    return run


def test_the_page_comes_once_at_the_end_with_every_report_of_every_callback() -> None:
    logger = wandb_logger()
    ours, others = spectrum(density=True), CriticalPoint(max_overhead=None)
    fit(ours, others, logger=logger, max_epochs=2)
    ((step, (_, page, _)),) = logger.values("hessian/page")
    assert step == 8
    assert not logger.values("critical_point/page")
    (run,) = Page(page).data
    found = [(entry["callback"], entry["step"]) for entry in run["entries"]]
    assert found == [(each.name, step) for each in (ours, others) for step in steps(each)]
    # a picture and a histogram for each report, with its numbers
    assert [step for step, _ in logger.values("hessian/spectrum")] == steps(ours)
    assert [step for step, _ in logger.values("hessian/density")] == steps(ours)
    (row,) = (row for row, step in logger.rows if step == 4 and "hessian/density" in row)
    assert "hessian/loss" in row


def test_a_callback_that_another_one_holds_makes_no_page() -> None:
    inner = spectrum()

    class Outer(pl.Callback):
        def on_train_start(self, *arguments: Any) -> None:
            inner.on_train_start(*arguments)

        def on_train_end(self, *arguments: Any) -> None:
            inner.on_train_end(*arguments)

    logger = wandb_logger()
    fit(Outer(), logger=logger, max_epochs=1)
    assert steps(inner) == [0, 4]
    assert not logger.values("hessian/page")


def test_a_report_without_numbers_is_on_the_page_with_its_reason() -> None:
    class Broken(Classifier):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return super().training_step(batch, batch_idx) * float("nan")

    logger = mlflow_logger()
    callback = spectrum(on_error="warn")
    with pytest.warns(UserWarning, match="has no numbers"):
        trainer(callback, logger=logger, max_epochs=1).fit(Broken(), loader())
    (page,) = (call[1][1] for call in logger.experiment.calls if call[0] == "log_text")
    (run,) = Page(page).data
    assert "NonFiniteError" in run["entries"][0]["failure"]


def test_a_logger_that_fails_ends_no_training_and_is_told_of_once_and_at_the_end() -> None:
    logger = comet_logger(fails=True)
    callback = spectrum(density=True, on_error="warn")
    with pytest.warns(UserWarning, match="could not write its report") as warned:
        run = fit(callback, logger=logger)
    told = [str(each.message) for each in warned if "could not write" in str(each.message)]
    assert len(steps(callback)) > 2
    assert run.global_step == 16
    picture, page = told
    assert "of step 0: RuntimeError: Recording took no picture of it" in picture
    assert "of step 16: RuntimeError: Recording took no page of the reports" in page


def test_a_trial_run_makes_no_page() -> None:
    logger = wandb_logger()
    fit(spectrum(), logger=logger, fast_dev_run=True)
    assert logger.rows == []


def test_without_room_on_the_disk_nothing_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: Any) -> None:
        raise NoRoomError("no room")

    monkeypatch.setattr(Room, "write", none)
    logger = mlflow_logger()
    with pytest.warns(UserWarning, match="NoRoomError"):
        fit(spectrum(density=True, on_error="warn"), logger=logger)
    assert logger.experiment.calls == []


def test_loggers_that_draw_random_numbers_leave_the_run_as_it_is() -> None:
    def drawing(*_: Any, **__: Any) -> None:
        torch.rand(3)
        np.random.rand(3)  # noqa: NPY002
        random.random()

    def outcome(*callbacks: pl.Callback) -> list[Any]:
        logger = comet_logger()
        vars(logger.experiment).update(log_image=drawing, log_asset_data=drawing)
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002
        run = fit(*callbacks, logger=logger)
        drawn = [torch.rand(1).item(), random.random(), np.random.rand()]  # noqa: NPY002
        return [each.tolist() for each in run.lightning_module.parameters()] + drawn

    assert outcome(spectrum(density=True)) == outcome()
