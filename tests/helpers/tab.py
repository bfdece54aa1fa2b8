"""What the Hessian tab is tested on: trainings that were logged, and entries made by hand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.tensorboard import SummaryWriter

from lightning_hessian import CriticalPoint, HessianSpectrum, Krylov, LossDifference, Surface
from lightning_hessian.records import Report
from lightning_hessian.show.gallery import Gallery
from lightning_hessian.show.tab_entry import entry_bytes, tab_entry
from lightning_hessian.show.tensorboard import write_entry
from tests.helpers.fitting import Classifier, loader, trainer

RATES = (0.03, 0.3, 3.0)
"""Far below the edge of stability, below it, and at it."""
EPOCHS, EVERY = 12, 4


@dataclass(frozen=True)
class Training:
    """A run as its callbacks know it."""

    name: str
    reports: dict[str, list[Any]]
    """By the callback's name."""


def train(folder: Path, name: str, lr: float) -> Training:
    """A fit of a few steps with everything that the tab can show, but for pictures."""
    when: dict[str, Any] = {
        "max_overhead": None,
        "every_n_epochs": EVERY,
        "custom_scalars": False,
        "solver": Krylov(max_hvps=30),
    }
    callbacks = (
        HessianSpectrum(edge=True, parameter_blocks="modules", eigenvalues_per_block=1, **when),
        CriticalPoint(**when),
        LossDifference(thresholds=[1e-3], surface=Surface(points=5), **when),
    )
    logger = TensorBoardLogger(folder, name=None, version=name)
    fit = trainer(*callbacks, max_epochs=EPOCHS, logger=logger, log_every_n_steps=1)
    with pytest.MonkeyPatch.context() as patch:
        # they take most of the time, and stand in another tab
        patch.setattr(Gallery, "next", lambda *_, **__: {})
        patch.setattr(Gallery, "last", lambda *_: {})
        pl.seed_everything(0, verbose=False)
        fit.fit(Classifier(lr=lr), loader(batch_size=26))
    logger.experiment.close()
    names = ("hessian", "critical_point", "loss_difference")
    return Training(name, {name: each.reports for name, each in zip(names, callbacks, strict=True)})


def write_reports(run: Path, *reports: Report, name: str = "hessian") -> None:
    """Entries of these reports alone, added to a run."""
    with SummaryWriter(str(run)) as writer:
        for report in reports:
            entry = entry_bytes(tab_entry(report, name=name))
            write_entry(writer, entry, tag=f"{name}/report", step=report.step)


def write_bytes(run: Path, content: bytes, *, tag: str = "hessian/report", step: int = 0) -> None:
    """Anything at all under our plugin's name."""
    with SummaryWriter(str(run)) as writer:
        write_entry(writer, content, tag=tag, step=step)
