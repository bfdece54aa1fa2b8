"""Data-parallel training saves each report once, in the checkpoint and beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from lightning_hessian.show import read_sidecar
from tests.helpers.fitting import loader
from tests.helpers.hard_modules import mlp, seeded
from tests.helpers.processes import ddp_trainer, in_processes
from tests.helpers.spectrum import spectrum


def test_a_checkpoint_holds_the_report_that_all_processes_have(tmp_path: Path) -> None:
    def part(rank: int) -> Any:
        callback = spectrum(at_checkpoints=True, every_n_epochs=None)
        saver = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=1, save_top_k=-1)
        fit = {"max_epochs": 2, "max_steps": 3, "enable_checkpointing": True}
        ddp_trainer(callback, saver, **fit).fit(seeded(mlp), loader())
        return [report.to_dict() for report in callback.reports]

    first, second = in_processes(part)
    assert repr(first) == repr(second)
    assert [report["global_step"] for report in first] == [0, 1, 2, 3]
    for report in first[1:]:
        path = tmp_path / f"step={report['global_step']}.ckpt"
        assert report["ckpt_path"] == str(path)
        states = torch.load(path, weights_only=True)["callbacks"]
        (ours,) = (state for key, state in states.items() if "HessianSpectrum" in key)
        assert repr(ours["reports"][-1]) == repr(report)
        assert (
            read_sidecar(f"{path}.hessian.json")["largest"]["values"] == report["largest"]["values"]
        )


def test_processes_whose_running_statistics_differ_learn_of_the_checkpoint_alike(
    tmp_path: Path,
) -> None:
    def part(rank: int) -> Any:
        callback = spectrum(every_n_epochs=None, every_n_train_steps=1, at_checkpoints=True)
        saver = ModelCheckpoint(tmp_path, every_n_train_steps=2, save_top_k=-1)
        module = seeded(lambda: nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)))
        ddp_trainer(callback, saver, enable_checkpointing=True).fit(module, loader())
        means = module.network[1].running_mean.tolist()
        return [(r.global_step, r.ckpt_path) for r in callback.reports], means

    (first, means), (second, other_means) = in_processes(part)
    assert means != other_means
    assert first == second
    assert [path is not None for _, path in first] == [False, False, True]
