"""What stops, saves and slows a fit by its metrics can watch the numbers of a report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch import Tensor

from lightning_hessian import HessianSpectrum, LossDifference
from tests.helpers.fitting import Classifier, loader, trainer
from tests.helpers.processes import ddp_trainer, in_processes
from tests.helpers.spectrum import spectrum

EIG = "hessian/eig_1"


class Validated(Classifier):
    """With a loss on validation data, of the seeded weights."""

    def __init__(self) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(3)
            super().__init__(lr=0.5)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.training_step(batch, batch_idx))


class Slowed(Validated):
    """Halves its learning rate whenever the sharpness has not risen above what it was."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=self.lr)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, mode="max", factor=0.5, patience=0
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "monitor": EIG},
        }


class Seen(pl.Callback):
    """What stands in the Trainer's dictionaries after each epoch, and the weights."""

    def __init__(self) -> None:
        self.callback: list[dict[str, float]] = []
        self.others: list[Any] = []

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.callback.append({k: float(v) for k, v in trainer.callback_metrics.items()})
        shown = (trainer.logged_metrics, trainer.progress_bar_metrics)
        numbers = [{k: float(v) for k, v in metrics.items()} for metrics in shown]
        self.others.append((numbers, [p.tolist() for p in pl_module.parameters()]))


def each_epoch(**options: Any) -> HessianSpectrum:
    return spectrum(every_n_epochs=1, monitor=True, **options)


def fit(*callbacks: pl.Callback, module: type[Validated] = Validated, **options: Any) -> Validated:
    own = module()
    keyed = {"max_epochs": 4, "enable_checkpointing": True} | options
    path = keyed.pop("ckpt_path", None)
    trainer(*callbacks, **keyed).fit(
        own, loader(), loader(), ckpt_path=path, weights_only=path is not None or None
    )
    return own


def values(callback: HessianSpectrum) -> list[float]:
    """Of the largest eigenvalue, by epochs; the start first, without the end's own report."""
    return [float(report.largest.values[0]) for report in callback.reports]


def quiet_saver(directory: Path, **options: Any) -> ModelCheckpoint:
    return ModelCheckpoint(directory, **options)


@pytest.mark.parametrize(
    ("is_first", "at_train_end"),
    [
        (False, True),
        pytest.param(True, True, marks=pytest.mark.slow),
        pytest.param(True, False, marks=pytest.mark.slow),
    ],
)
def test_early_stopping_waits_for_the_sharpness(
    tmp_path: Path, is_first: bool, at_train_end: bool
) -> None:
    probe = each_epoch()
    fit(probe, quiet_saver(tmp_path / "a"))
    known = values(probe)[:5]
    assert known == sorted(known) or known == sorted(known, reverse=True)
    threshold = (known[1] + known[2]) / 2  # passed by the report of the second epoch
    mode = "max" if known[-1] > known[0] else "min"
    stopper = EarlyStopping(
        EIG,
        mode=mode,
        stopping_threshold=threshold,
        check_on_train_epoch_end=at_train_end,
    )
    watched = each_epoch()
    order = (watched, stopper) if is_first else (stopper, watched)
    fit(*order, quiet_saver(tmp_path / "b"))
    # at an epoch's end Lightning calls those that monitor after all others, in whatever order they
    # were given; validation comes before the epoch is measured, and sees the number of the last one
    assert stopper.stopped_epoch == (1 if at_train_end else 2)


@pytest.mark.slow
def test_the_best_checkpoint_is_that_of_the_sharpest_weights(tmp_path: Path) -> None:
    callback = each_epoch()
    saver = quiet_saver(
        tmp_path, monitor=EIG, mode="max", filename="{epoch}", save_on_train_epoch_end=True
    )
    fit(callback, saver)
    by_epoch = {r.epoch: float(r.largest.values[0]) for r in callback.reports[1:]}
    best = max(by_epoch, key=lambda epoch: by_epoch[epoch])
    assert Path(saver.best_model_path).name == f"epoch={best}.ckpt"
    assert float(saver.best_model_score) == by_epoch[best]


def test_a_plateau_of_the_sharpness_slows_training(tmp_path: Path) -> None:
    callback = each_epoch()
    own = fit(callback, quiet_saver(tmp_path), module=Slowed)
    best, rate = float("-inf"), 0.5
    for value in values(callback)[1:5]:  # the scheduler's own rule, on our numbers
        if value > best * (1 + 1e-4):
            best = value
        else:
            rate /= 2
    assert rate < 0.5
    assert own.optimizers().param_groups[0]["lr"] == rate


def test_nothing_but_the_metrics_of_callbacks_changes(tmp_path: Path) -> None:
    seen = {}
    for monitor in (None, False, True):
        seen[monitor] = Seen()
        ours = [] if monitor is None else [spectrum(every_n_epochs=1, monitor=monitor)]
        fit(*ours, seen[monitor], quiet_saver(tmp_path / str(monitor)))
    assert seen[True].others == seen[False].others == seen[None].others
    assert seen[False].callback == seen[None].callback
    for with_ours, without in zip(seen[True].callback, seen[None].callback, strict=True):
        assert EIG in with_ours
        own = {key: value for key, value in with_ours.items() if "hessian" not in key}
        assert own == without


class Fails(Validated):
    """Cannot be measured from the second epoch on."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        is_ours = not self.training
        return loss * float("nan") if is_ours and self.current_epoch > 0 else loss


@pytest.mark.filterwarnings("ignore:HessianSpectrum has no numbers")
def test_a_number_stands_until_the_next_one_is_there(tmp_path: Path) -> None:
    seen, callback = Seen(), spectrum(every_n_epochs=1, monitor=True, on_error="warn")
    fit(callback, seen, quiet_saver(tmp_path), module=Fails)
    assert [report.failure is None for report in callback.reports[:4]] == [True, True, False, False]
    last = float(callback.reports[1].largest.values[0])
    assert [metrics[EIG] for metrics in seen.callback] == [last] * 4


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_a_resumed_fit_knows_the_last_number_before_it_measures(tmp_path: Path) -> None:
    first = each_epoch()
    saver = quiet_saver(tmp_path, save_last=True)
    fit(first, saver, max_epochs=2)
    last = first.reports[2]
    stopper = EarlyStopping(EIG, mode="max", patience=9, check_on_train_epoch_end=True)
    seen = Seen()
    rare = spectrum(every_n_epochs=9, monitor=True)
    fit(rare, stopper, seen, quiet_saver(tmp_path), max_epochs=3, ckpt_path=saver.last_model_path)
    assert seen.callback[0][EIG] == float(last.largest.values[0])


def test_the_loss_difference_can_be_watched_too(tmp_path: Path) -> None:
    seen = Seen()
    callback = LossDifference(every_n_epochs=1, max_overhead=None, monitor=True, on_error="raise")
    fit(callback, seen, quiet_saver(tmp_path), max_epochs=1)
    assert seen.callback[0]["loss_difference/loss"] == callback.reports[1].loss


def test_all_processes_see_one_value() -> None:
    def part(rank: int) -> Any:
        torch.manual_seed(0)
        seen = Seen()
        stopper = EarlyStopping(EIG, mode="max", check_on_train_epoch_end=True)
        ddp_trainer(each_epoch(), stopper, seen, max_epochs=2).fit(Classifier(), loader())
        return [metrics[EIG] for metrics in seen.callback], float(stopper.best_score)

    first, second = in_processes(part)
    assert first == second
    assert len(set(first[0])) == 2
