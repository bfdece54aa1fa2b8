"""A report stands where Lightning logs the loss of the same weights, however steps are counted.

Every batch holds the same samples, so that the loss that ``self.log`` tells of a batch is the one
that a report of the same weights measured: an equality that holds at one step alone.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import ConcatDataset

from lightning_hessian import HessianSpectrum
from tests.helpers.fitting import Classifier, classification_data, loader, trainer
from tests.helpers.media_loggers import Recording
from tests.helpers.spectrum import spectrum

NUM_BATCHES = 4
"""In an epoch."""


class TwoOptimisers(Classifier):
    """Steps by hand: two optimisers for each batch."""

    def __init__(self, *, through_lightning: bool = True, every: int = 1) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.through_lightning = through_lightning
        self.every = every

    def training_step(self, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
        loss = super().training_step(batch, batch_idx)
        self.manual_backward(loss)
        if (batch_idx + 1) % self.every:
            return
        for optimizer in self.optimizers():  # type: ignore[union-attr]
            (optimizer if self.through_lightning else optimizer.optimizer).step()
            optimizer.zero_grad()

    def configure_optimizers(self) -> Any:
        first, _, second = self.network
        return [torch.optim.SGD(part.parameters(), lr=0.1) for part in (first, second)]


def fit(
    module: Classifier,
    callback: HessianSpectrum,
    *,
    logger: Any,
    ckpt_path: Any = None,
    **more: Any,
) -> pl.Trainer:
    torch.manual_seed(3)
    data = loader(ConcatDataset([classification_data(8)] * NUM_BATCHES), batch_size=8)
    fitting = trainer(callback, logger=logger, log_every_n_steps=1, **({"max_epochs": 3} | more))
    fitting.fit(module, data, ckpt_path=ckpt_path, weights_only=True)
    return fitting


def often(every: int = 1) -> HessianSpectrum:
    return spectrum(every_n_epochs=None, every_n_train_steps=every)


def losses(logger: Recording, tag: str) -> dict[int | None, float]:
    return {step: row[tag] for row, step in logger.rows if tag in row}


MODULES = {
    "one optimiser": (Classifier, {}),
    "accumulation": (Classifier, {"accumulate_grad_batches": 3}),
    "two optimisers": (TwoOptimisers, {}),
    "past Lightning": (lambda: TwoOptimisers(through_lightning=False), {}),
    "accumulation by hand": (lambda: TwoOptimisers(every=2), {}),
}


@pytest.mark.parametrize("name", MODULES)
def test_points_stand_where_the_loss_of_the_same_weights_is_logged(name: str) -> None:
    make, options = MODULES[name]
    logger, callback = Recording(), often()
    fit(make(), callback, logger=logger, **options)
    own, ours = losses(logger, "train_loss"), losses(logger, "hessian/loss")
    end = max(own) + 1  # type: ignore[operator, type-var]
    assert ours.pop(end) < min(own.values())
    assert len(ours) >= 5
    for step, loss in ours.items():
        assert loss == pytest.approx(own[step], rel=1e-5), step
    # no two steps have the same loss, but where weights have not moved
    assert len(set(ours.values())) == len(ours)


@pytest.mark.parametrize(
    ("make", "every", "wanted"),
    [
        (TwoOptimisers, 4, [(0, 0), (4, 2), (8, 4), (12, 6), (16, 8)]),
        # multiples of three are passed within batches
        (TwoOptimisers, 3, [(0, 0), (4, 2), (6, 3), (10, 5), (12, 6), (16, 8)]),
        (lambda: TwoOptimisers(through_lightning=False), 3, [(0, 0), (0, 3), (0, 6), (0, 8)]),
    ],
)
def test_intervals_count_optimiser_steps_and_batches_where_lightning_sees_none(
    make: Any, every: int, wanted: list[tuple[int, int]]
) -> None:
    callback = often(every)
    fit(make(), callback, logger=False, max_epochs=2)
    assert [(r.global_step, r.logged_step) for r in callback.reports] == wanted
    rows = [line.split() for line in callback.table(callback.reports).splitlines()]
    # the others are the head and the notes
    assert [row[0] for row in rows if row[0].isdigit()] == [str(step) for _, step in wanted]


@pytest.mark.parametrize("through_lightning", [True, False])
def test_a_resumed_fit_goes_on_along_the_same_axis(tmp_path: Path, through_lightning: bool) -> None:
    def module() -> TwoOptimisers:
        return TwoOptimisers(through_lightning=through_lightning)

    # not by a `ModelCheckpoint`, which saves nothing while `global_step` stands still
    saved = tmp_path / "saved.ckpt"
    fit(module(), often(), logger=False, max_epochs=1).save_checkpoint(saved)
    logger, callback = Recording(), often()
    fit(module(), callback, logger=logger, ckpt_path=saved)
    own, ours = losses(logger, "train_loss"), losses(logger, "hessian/loss")
    assert sorted(own) == list(range(NUM_BATCHES, 3 * NUM_BATCHES))  # type: ignore[type-var]
    ours.pop(3 * NUM_BATCHES)
    assert set(ours) >= set(range(NUM_BATCHES + 1, 3 * NUM_BATCHES))
    for step, loss in ours.items():
        assert loss == pytest.approx(own[step], rel=1e-5), step
    assert [report.step for report in callback.reports] == list(range(3 * NUM_BATCHES + 1))


def test_rows_of_a_csv_file_carry_their_epoch(tmp_path: Path) -> None:
    callback = often(2)
    fit(TwoOptimisers(), callback, logger=CSVLogger(tmp_path, name=None, version="run"))
    with (tmp_path / "run" / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["hessian/loss"]]
    assert [(int(row["step"]), int(row["epoch"])) for row in rows] == [
        (report.step, report.epoch) for report in callback.reports
    ]
    assert {row["epoch"] for row in rows} >= {"0", "1", "2"}
