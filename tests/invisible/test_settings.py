"""A run with the callback is the run without it, bit by bit, whatever the Trainer is told."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch import callbacks as host
from torch.utils.data import WeightedRandomSampler

from lightning_hessian import Krylov, Loss
from tests.helpers.hostile import HostileData, HostileModule
from tests.helpers.recording import differences, run, spectrum

Setting = dict[str, Any]
SLOW = pytest.mark.slow


def early_stopping() -> list[pl.Callback]:
    return [host.EarlyStopping("val_loss", patience=0), host.LearningRateMonitor("step")]


def averaging() -> list[pl.Callback]:
    return [host.StochasticWeightAveraging(swa_lrs=0.01, swa_epoch_start=1)]


def moving_average() -> list[pl.Callback]:
    return [host.EMAWeightAveraging(decay=0.9)]


def scheduled_accumulation() -> list[pl.Callback]:
    return [host.GradientAccumulationScheduler({0: 1, 1: 3})]


def saved_in_validation() -> list[pl.Callback]:
    return [host.ModelCheckpoint(monitor="val_loss", save_top_k=-1, filename="{step}-validation")]


def own_generator() -> HostileData:
    return HostileData(generator=torch.Generator().manual_seed(5))


def weighted() -> HostileData:
    return HostileData(sampler=WeightedRandomSampler([float(i + 1) for i in range(16)], 12))


def in_order() -> HostileData:
    return HostileData(shuffle=False)


def workers() -> HostileData:
    return HostileData(num_workers=1, persistent_workers=True)


class AnnealedInStep(HostileModule):
    """Steps its scheduler by itself."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if self.global_step > 0:
            self.lr_schedulers().step()
        return super().training_step(batch, batch_idx)

    def configure_optimizers(self) -> Any:
        optimizer = super().configure_optimizers()
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3, gamma=0.5)
        return [optimizer], [{"scheduler": scheduler, "interval": "epoch", "frequency": 100}]


def case(name: str, *, marks: Any = (), ours: Setting | None = None, **setting: Any) -> Any:
    return pytest.param(setting, ours or {}, id=name, marks=marks)


SETTINGS = [
    case("plain"),
    case("sgd-with-momentum", module=partial(HostileModule, optimizer="sgd"), marks=SLOW),
    case("train-mode", ours={"mode": "train"}),
    case("everything-measured", marks=SLOW,
         ours={"trace": True, "density": True, "solver": Krylov(max_hvps=16, rtol=0.5)}),
    case("float64-on-request", ours={"loss": Loss(precision=64), "mode": "train"}, marks=SLOW),
    case("differences", ours={"loss": Loss(products="finite_difference")}),
    case("differences-in-train-mode", accumulate_grad_batches=3,
         ours={"loss": Loss(products="finite_difference"), "mode": "train"}),
    case("accumulate", accumulate_grad_batches=3),
    case("accumulate-by-schedule", callbacks=scheduled_accumulation, marks=SLOW),
    case("clip-norm", gradient_clip_val=0.1, marks=SLOW),
    case("clip-value", gradient_clip_val=0.1, gradient_clip_algorithm="value"),
    case("validation-inside-epoch", val_check_interval=2),
    case("checkpoint-inside-validation", callbacks=saved_in_validation, val_check_interval=2,
         ours={"at_checkpoints": True, "every_n_train_steps": None, "mode": "train"}),
    case("persistent-workers", data=workers),
    case("loader-with-generator", data=own_generator),
    case("weighted-sampler", data=weighted, marks=SLOW),
    case("bf16-mixed", precision="bf16-mixed"),
    case("bf16-true", precision="bf16-true"),
    case("64-true", precision="64-true"),
    case("early-stopping", callbacks=early_stopping, max_epochs=4),
    case("stop-from-step", module=partial(HostileModule, stop_at_step=5)),
    case("schedule-from-step", module=AnnealedInStep),
    case("weight-averaging", callbacks=averaging),
    case("moving-average", callbacks=moving_average, marks=SLOW),
    case("overfit-batches", data=in_order, overfit_batches=2, marks=SLOW),
    case("limit-train-batches", limit_train_batches=2, marks=SLOW),
    case("reload-each-epoch", reload_dataloaders_every_n_epochs=1, marks=SLOW),
    case("deterministic", deterministic=True, marks=SLOW),
    case("detect-anomaly", detect_anomaly=True,
         marks=[SLOW, pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled")]),
    case("profiler", profiler="simple", marks=SLOW),
    case("compiled", module=partial(HostileModule, compiled=True)),
    case("no-inference-mode", inference_mode=False, val_check_interval=2, marks=SLOW),
    case("without-validation", limit_val_batches=0, marks=SLOW),
]  # fmt: skip


@pytest.fixture(autouse=True)
def _deterministic_algorithms_are_put_back() -> Iterator[None]:
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.sampled
@pytest.mark.parametrize(("setting", "ours"), SETTINGS)
def test_run_with_callback_is_bit_identical(
    setting: Setting, ours: dict[str, Any], tmp_path: Path
) -> None:
    without = run(tmp_path / "without", **setting)
    with_ours = run(tmp_path / "with", spectrum(**({"every_n_train_steps": 2} | ours)), **setting)
    assert differences(without, with_ours) == []
    reports = with_ours.callback.reports
    assert len(reports) >= 3
    assert all(report.failure is None for report in reports)
    assert len(without.points) >= 5


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch")
def test_resumed_run_with_callback_is_bit_identical(tmp_path: Path) -> None:
    run(tmp_path / "first", max_epochs=1)
    saved = tmp_path / "first" / "saved" / "last.ckpt"
    runs = [
        run(tmp_path / name, callback, ckpt_path=saved)
        for name, callback in (("without", None), ("with", spectrum()))
    ]
    assert differences(*runs) == []


def test_two_runs_of_a_changed_seed_differ_in_the_records(tmp_path: Path) -> None:
    """The comparison itself can fail."""
    first = run(tmp_path / "first")
    second = run(tmp_path / "second", module=other_module)
    assert any(
        "module.norm" in line or "running_mean" in line for line in differences(first, second)
    )


def other_module() -> HostileModule:
    module = HostileModule()
    with torch.no_grad():
        module.head.bias[0] += 1e-7
    return module
