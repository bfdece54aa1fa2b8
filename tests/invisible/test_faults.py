"""An error at any call of anything that a callback calls: the run goes on, and it is told."""

from __future__ import annotations

import os
import random
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger

from lightning_hessian import CriticalPoint, HessianSpectrum, Krylov, LossDifference
from lightning_hessian.callbacks import MeasuringCallback
from lightning_hessian.errors import RestorationError
from tests.helpers.faults import NOTHING, Fault, Injector, draw
from tests.helpers.fitting import loader, trainer
from tests.helpers.recording import Recorder
from tests.helpers.restless import Restless, Shaken

NUM_FAULTS = int(os.environ.get("HESSIAN_FAULTS", "8"))
SEED = int(os.environ.get("HESSIAN_FAULTS_SEED", "0"))
CALLBACKS: dict[str, Callable[[], MeasuringCallback[Any]]] = {
    "spectrum": lambda: HessianSpectrum(max_overhead=0.9, at_checkpoints=True),
    "whole spectrum": lambda: HessianSpectrum(
        max_overhead=None, every_n_train_steps=4, mode="train", solver=Krylov(max_hvps=24)
    ),
    "loss difference": lambda: LossDifference(max_overhead=0.9, at_checkpoints=True),
    "critical point": lambda: CriticalPoint(max_overhead=0.9, at_checkpoints=True),
}
OURS = ("hessian", "loss_difference", "critical_point")
OTHER_WAYS = ("reading.py:read_off:", "groups.py:is_same_loss:", "length.py:_sizes:")
"""In which what fails is done otherwise."""
NO_NUMBERS = ("seconds", "gradient_seconds", "ckpt_path")


class DrawingLogger(CSVLogger):
    """Draws random numbers with all that it writes, and keeps what is the user's."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, name=None, version="run")
        self.users: list[tuple[int | None, dict[str, float]]] = []

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        np.random.rand(), random.random(), torch.rand(1)  # noqa: NPY002
        users = {name: value for name, value in metrics.items() if not name.startswith(OURS)}
        # a row of ours carries its epoch
        if users.keys() - {"epoch"} or len(users) == len(metrics):
            self.users.append((step, users))
        super().log_metrics(metrics, step)


@dataclass
class Fit:
    """What a fit was, bit by bit, beside what is ours; and what it told."""

    users: list[Any]
    ours: list[Any]
    told: list[str]


def run(directory: Path, injector: Injector, *callbacks: MeasuringCallback[Any]) -> Fit:
    """A fit from fixed seeds, with what is injected into it."""
    pl.seed_everything(5, verbose=False)
    saver = ModelCheckpoint(directory, every_n_train_steps=2, save_top_k=-1)
    recorder, logger = Recorder(), DrawingLogger(directory)
    fit = trainer(
        *callbacks,
        saver,
        recorder,
        enable_checkpointing=True,
        max_epochs=2,
        limit_train_batches=3,
        logger=logger,
        log_every_n_steps=1,
    )
    with warnings.catch_warnings(record=True) as told, injector.watching():
        warnings.simplefilter("always")
        fit.fit(Restless(), loader(Shaken(), shuffle=True))
    saved = sorted(path.name for path in directory.glob("*.ckpt"))
    here = [(name, _without(directory, record)) for name, record in recorder.records]
    reports = [_numbers(report.to_dict()) for callback in callbacks for report in callback.reports]
    beside = sorted(path.name for path in directory.glob("*.json"))
    ours = [*reports, beside, _rows_of_ours(directory)]
    return Fit([*here, logger.users, saved], ours, [str(warning.message) for warning in told])


def _without(directory: Path, record: dict[str, str]) -> dict[str, str]:
    own = str(directory)
    return {key.replace(own, ""): value.replace(own, "") for key, value in record.items()}


def _numbers(report: dict[str, Any]) -> str:
    return repr({key: value for key, value in report.items() if key not in NO_NUMBERS})


def _rows_of_ours(directory: Path) -> int:
    """How many values of ours are in the logger's file."""
    lines = (directory / "run" / "metrics.csv").read_text().splitlines()
    columns = lines[0].split(",")
    are_ours = [column.startswith(OURS) for column in columns]
    cells = (zip(are_ours, line.split(","), strict=True) for line in lines[1:])
    return sum(is_ours and value != "" for row in cells for is_ours, value in row)


def is_told(injector: Injector, fault: Fault, fit: Fit, undisturbed: Fit) -> bool:
    """In a warning of a callback's, or a failure or a note of a report.

    What the fault has met may have words of its own for it: Python says of a generator that did
    not yield, ``inspect`` of an unsupported callable. Following a step to read off the losses of
    its samples is one of several ways to the same numbers, and so is comparing batches with larger
    ones; that it fails costs time alone, and perhaps a report that this would have paid for.
    """
    if any(place.startswith(OTHER_WAYS) for place in injector.where):
        return True
    signs = ("injected", fault.kind.__name__)
    if any(sign in text for sign in signs for text in (*fit.told, *map(str, fit.ours))):
        return True
    news = set(fit.told) - set(undisturbed.told)
    return any(text.startswith(("HessianSpectrum ", "LossDifference ")) for text in news)


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLBACKS)
def test_no_fault_ends_a_run_or_changes_it_and_none_is_silent(name: str, tmp_path: Path) -> None:
    bare = run(tmp_path / "bare", Injector(NOTHING)).users
    run(tmp_path / "warm", Injector(NOTHING), CALLBACKS[name]())
    counted = Injector()
    undisturbed = run(tmp_path / "counted", counted, CALLBACKS[name]())
    assert undisturbed.users == bare
    generator, outcomes = random.Random(SEED), Counter[str]()
    for number in range(NUM_FAULTS):
        fault = draw(counted.calls, generator)
        injector = Injector(fault)
        try:
            fit = run(tmp_path / str(number), injector, CALLBACKS[name]())
        except RestorationError:
            outcomes["ended, as the state could not be put back"] += 1
            continue
        assert injector.where, f"{fault} was not reached"
        assert fit.users == bare, (fault, injector.where)
        is_harmless = fit.ours == undisturbed.ours
        assert is_told(injector, fault, fit, undisturbed) or is_harmless, (fault, injector.where)
        outcomes["no number was lost" if is_harmless else "told"] += 1
    print(name, SEED, dict(outcomes))
    assert outcomes["ended, as the state could not be put back"] <= 0.1 * NUM_FAULTS + 1
