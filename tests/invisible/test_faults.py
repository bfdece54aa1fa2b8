"""An error at any call of anything that a callback does: the run goes on, and it is recorded."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger

from lightning_hessian import HessianSpectrum, LossDifference
from lightning_hessian.errors import RestorationError
from tests.helpers.faults import InjectedError, Injector
from tests.helpers.fitting import Classifier, loader, trainer

NUM_FAULTS = int(os.environ.get("HESSIAN_FAULTS", "12"))
CALLBACKS = {
    "spectrum": lambda: HessianSpectrum(max_overhead=0.9, at_checkpoints=True),
    "loss difference": lambda: LossDifference(max_overhead=0.9),
}


def run(directory: Path, injector: Injector, *callbacks: Any) -> tuple[list[Any], list[str]]:
    """State at the end of a fit, and what it warned of."""
    torch.manual_seed(5)
    module = Classifier()
    saver = ModelCheckpoint(directory, every_n_train_steps=3, save_top_k=-1)
    fit = trainer(
        *callbacks,
        saver,
        enable_checkpointing=True,
        max_epochs=3,
        logger=CSVLogger(directory, name=None, version="run"),
    )
    with warnings.catch_warnings(record=True) as told, injector.watching():
        warnings.simplefilter("always")
        fit.fit(module, loader())
    saved = sorted(path.name for path in directory.glob("*.ckpt"))
    state = [*(t.tolist() for t in module.state_dict().values()), saved, torch.rand(2).tolist()]
    return state, [str(warning.message) for warning in told]


def is_recorded(where: list[str], reports: list[Any], told: list[str]) -> bool:
    """In a warning, a failure or a note.

    Following a step to read off the losses of its samples is one of several ways to the same
    numbers; that it fails costs time alone.
    """
    if "reading.py:read_off" in where:
        return True
    texts = [*told, *(report.failure or "" for report in reports)]
    texts += [note for report in reports for note in report.notes]
    return any("injected" in text for text in texts)


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLBACKS)
def test_no_fault_ends_a_run_or_changes_it_and_none_is_silent(name: str, tmp_path: Path) -> None:
    bare, _ = run(tmp_path / "bare", Injector())
    counted = Injector()
    undisturbed, _ = run(tmp_path / "counted", counted, CALLBACKS[name]())
    assert undisturbed == bare
    generator = torch.Generator().manual_seed(0)
    ended = []
    for number in range(NUM_FAULTS):
        at = int(torch.randint(counted.calls, (1,), generator=generator))
        injector, callback = Injector(at), CALLBACKS[name]()
        try:
            state, told = run(tmp_path / str(number), injector, callback)
        except RestorationError as error:
            ended.append(f"{at} {injector.where[:3]}: {error}")
            continue
        except InjectedError:
            pytest.fail(f"call {at}, {injector.where}, ended the run")
        assert state == bare, (at, injector.where)
        assert is_recorded(injector.where, callback.reports, told), (at, injector.where)
    print(*ended, sep="\n")
    # where state was being put back, and the run ends rather than go on from another
    assert len(ended) <= 0.1 * NUM_FAULTS + 1, ended
