"""Processes that Lightning starts itself, from a running program, end with what they know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger

from lightning_hessian import SpectrumReport
from lightning_hessian.show import read_sidecar
from tests.distributed.test_equality import measured_by_one, numbers, plain, spectrum
from tests.helpers.fitting import loader, trainer
from tests.helpers.hard_modules import seeded

# a warning in a process that is started here would end it
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_reports_come_back_by_files_and_loggers_but_not_in_the_callback(
    start: Any, tmp_path: Path
) -> None:
    callback = spectrum(at_checkpoints=True)
    saver = ModelCheckpoint(tmp_path, filename="at-{step}", every_n_train_steps=2)
    options: dict[str, Any] = {"devices": 2, "strategy": f"ddp_{start}", "max_steps": 2}
    logger = CSVLogger(tmp_path, name=None, version="run")
    fit = trainer(callback, saver, logger=logger, enable_checkpointing=True, **options)
    fit.fit(seeded(plain), loader())
    assert callback.reports == []
    content = torch.load(tmp_path / "at-step=2.ckpt", weights_only=True)
    beside = read_sidecar(tmp_path / "at-step=2.ckpt.hessian.json")
    inside = content["callbacks"][callback.state_key]["reports"]
    assert [report["global_step"] for report in inside] == [0, 2]
    wanted = measured_by_one(
        seeded(plain), {k: v.tolist() for k, v in content["state_dict"].items()}
    )
    wanted.pop("ckpt_path")
    for found in (beside, inside[-1]):
        found = numbers(SpectrumReport.from_dict(found))
        assert {key: found[key] for key in wanted} == wanted
    rows = (tmp_path / "run" / "metrics.csv").read_text(encoding="utf8").splitlines()
    assert sum("hessian/eig_1" in row for row in rows) == 1  # in the heading
    assert len(rows) == 3
