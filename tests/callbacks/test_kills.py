"""A run that is killed at any moment leaves whole files, and goes on as the undisturbed one."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_hessian import HessianSpectrum, Krylov
from lightning_hessian.show import read_sidecar
from tests.helpers.fitting import Classifier, loader, trainer
from tests.helpers.spectrum import spectrum

NUM_KILLS = 20
MAX_STEPS = 48


def newest(directory: Path) -> Path | None:
    files = list(directory.glob("*.ckpt"))
    return max(files, key=lambda path: int(path.stem.split("=")[-1]), default=None)


def fit(directory: Path) -> HessianSpectrum:
    """Resume from the newest checkpoint, or begin."""
    torch.manual_seed(4)
    callback = spectrum(
        every_n_epochs=None,
        every_n_train_steps=3,
        at_checkpoints=True,
        density=True,
        solver=Krylov(max_hvps=24),
    )
    # at the ends of epochs, from where Lightning's own resume is exact
    saver = ModelCheckpoint(directory, every_n_train_steps=4, save_top_k=-1)
    fitted = trainer(callback, saver, max_steps=MAX_STEPS, max_epochs=-1, enable_checkpointing=True)
    fitted.fit(Classifier(), loader(shuffle=False), ckpt_path=newest(directory), weights_only=True)
    return callback


def numbers(callback: HessianSpectrum) -> list[tuple[int, float, list[float]]]:
    return [(r.global_step, r.loss, r.largest.values.tolist()) for r in callback.reports]


def in_child(directory: str) -> None:
    torch.set_num_threads(1)
    fit(Path(directory))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_twenty_random_kills_leave_whole_files_and_the_history_of_an_undisturbed_run(
    tmp_path: Path,
) -> None:
    start = time.perf_counter()
    undisturbed = numbers(fit(tmp_path / "whole"))
    seconds = time.perf_counter() - start
    draw = random.Random(5)
    directory = tmp_path / "killed"
    directory.mkdir()
    context: Any = multiprocessing.get_context("fork")
    kills = 0
    for _ in range(NUM_KILLS):
        child = context.Process(target=in_child, args=(str(directory),))
        child.start()
        child.join(timeout=draw.uniform(0.05, 0.35) * seconds)
        if child.is_alive():
            os.kill(child.pid, signal.SIGKILL)
            kills += 1
        child.join()
        for path in directory.glob("*.hessian.json"):
            if not path.name.startswith("."):
                values = read_sidecar(path)
                assert values["failure"] is None
        for path in directory.glob("*.ckpt"):
            torch.load(path, weights_only=True)
        if (path := newest(directory)) is not None and path.stem.endswith(f"={MAX_STEPS}"):
            # it got to the end: begin again from nothing
            for path in directory.iterdir():
                path.unlink()
    assert kills >= NUM_KILLS // 2
    assert numbers(fit(directory)) == undisturbed
