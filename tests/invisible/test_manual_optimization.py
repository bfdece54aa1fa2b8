"""A run that optimises by hand is bit-identical with the callbacks, too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor

from lightning_hessian import Loss
from tests.helpers.adversarial import Accumulates, DoesEverything, StepsByClosures
from tests.helpers.fitting import loader
from tests.helpers.hostile import HostileData, HostileModule
from tests.helpers.recording import differences, run, spectrum

SLOW = pytest.mark.slow
SECOND = Loss(which=1)

pytestmark = pytest.mark.filterwarnings(
    "ignore:Using ModelCheckpoint with manual optimization and every_n_train_steps"
)


class Restarts(DoesEverything):
    """Also keeps an average and what it saw of gradients, and forgets its momentum at times."""

    def __init__(self) -> None:
        super().__init__()
        self.norms: list[Tensor] = []
        self.average = [p.detach().clone() for p in self.generator.parameters()]

    def training_step(self, batch: Any, batch_idx: int) -> None:
        super().training_step(batch, batch_idx)
        self.norms += [p.grad.norm() for p in self.discriminator.parameters()]
        for mean, p in zip(self.average, self.generator.parameters(), strict=True):
            mean.mul_(0.9).add_(0.1 * p.detach())
        if batch_idx == 2:
            self.optimizers(use_pl_optimizer=False)[1].state.clear()


class HostileByHand(HostileModule):
    """Accumulates and clips by hand, in a module that changes whatever it can reach."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.automatic_optimization = False

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        optimizer = self.optimizers()
        with optimizer.toggle_model(sync_grad=batch_idx % 2 == 1):
            loss = super().training_step(batch, batch_idx)
            self.manual_backward(loss / 2)
            if batch_idx % 2 == 1:
                self.clip_gradients(optimizer, 0.5, "value")
                optimizer.step()
                optimizer.zero_grad()
                self.lr_schedulers().step()
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = super().configure_optimizers()
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.5)]


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("kind", "data", "ours", "setting"),
    [
        pytest.param(DoesEverything, loader, {"loss": Loss(which=0)}, {}, id="generator"),
        pytest.param(Restarts, loader, {"loss": SECOND, "mode": "train"}, {}, id="discriminator"),
        pytest.param(Restarts, loader, {"loss": replace(SECOND, precision=64)}, {},
                     id="float64", marks=SLOW),
        pytest.param(Accumulates, loader, {"loss": SECOND}, {"precision": "bf16-mixed"}, id="bf16"),
        pytest.param(StepsByClosures, loader, {"loss": SECOND}, {}, id="closures", marks=SLOW),
        pytest.param(HostileByHand, HostileData, {}, {}, id="hostile"),
        pytest.param(HostileByHand, HostileData, {"mode": "train"}, {"precision": "64-true"},
                     id="hostile-64-true", marks=SLOW),
    ],
)  # fmt: skip
def test_run_that_optimises_by_hand_is_bit_identical(
    kind: type[pl.LightningModule],
    data: Any,
    ours: dict[str, Any],
    setting: dict[str, Any],
    tmp_path: Path,
) -> None:
    setting = {"module": kind, "data": data, **setting}
    without = run(tmp_path / "without", **setting)
    with_ours = run(tmp_path / "with", spectrum(every_n_train_steps=2, **ours), **setting)
    assert differences(without, with_ours) == []
    assert with_ours.callback is not None
    reports = with_ours.callback.reports
    assert len(reports) >= 3
    assert all(report.failure is None for report in reports)
