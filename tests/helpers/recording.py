"""Bit-exact records of everything a run consists of, and the comparison of two runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lightning_hessian import HessianSpectrum, Krylov
from tests.helpers.fingerprint import Record, fingerprint, global_state
from tests.helpers.fitting import trainer
from tests.helpers.hostile import HostileData, HostileModule

OURS = ("HessianSpectrum", "LossDifference", "CriticalPoint")
OURS_IN_FILES = ("hessian", "loss_difference", "critical_point", "custom_scalars__")


class Recorder(pl.Callback):
    """Notes the whole state after every hook that a measurement could have come before."""

    def __init__(self) -> None:
        self.records: list[tuple[str, Record]] = []

    def note(self, trainer: pl.Trainer, module: pl.LightningModule, hook: str, **more: Any) -> None:
        data = getattr(trainer, "datamodule", None)
        state = {
            "module": module,
            "dataset": getattr(trainer.train_dataloader, "dataset", None),
            "data": None if data is None else {k: v for k, v in vars(data).items() if k[0] != "_"},
            "loader generator": getattr(trainer.train_dataloader, "generator", None),
            "flags": {name: part.training for name, part in module.named_modules()},
            "optimizers": [optimizer.state_dict() for optimizer in trainer.optimizers],
            "metrics": [trainer.callback_metrics, trainer.logged_metrics],
            "bar": trainer.progress_bar_metrics,
            "trainer": [str(trainer.state), trainer.should_stop, getattr(trainer, "mark", None)],
            "loop": trainer.fit_loop.state_dict(),
            "loggers": [type(logger).__name__ for logger in trainer.loggers],
            **more,
        }
        self.records.append((hook, dict(fingerprint(state)) | global_state()))

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.note(trainer, pl_module, "train start")

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *_: Any
    ) -> None:
        self.note(trainer, pl_module, "batch end", outputs=outputs)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.note(trainer, pl_module, "validation end")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.note(trainer, pl_module, "epoch end")

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self.note(trainer, pl_module, "save", checkpoint=_without_ours(checkpoint))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.note(trainer, pl_module, "train end")


@dataclass
class Run:
    """What one fit left behind."""

    records: list[tuple[str, Record]]
    points: dict[str, Any]
    checkpoint: Record
    module: pl.LightningModule
    callback: Any = None
    trainer: pl.Trainer = field(default_factory=trainer)


def spectrum(**options: Any) -> HessianSpectrum:
    """A callback that measures often, little, and hides no failure."""
    defaults: dict[str, Any] = {
        "every_n_train_steps": 1,
        "num_eigenvalues": 1,
        "num_smallest": 0,
        "trace": False,
        "density": False,
        "num_samples": 6,
        "solver": Krylov(max_hvps=8, rtol=0.5),
        "max_overhead": None,
        "on_error": "raise",
    }
    return HessianSpectrum(**(defaults | options))


def run(
    directory: Path,
    callback: Any = None,
    *,
    module: Callable[[], pl.LightningModule] = HostileModule,
    data: Callable[[], Any] = HostileData,
    callbacks: Callable[[], list[pl.Callback]] = list,
    ckpt_path: Path | None = None,
    **options: Any,
) -> Run:
    """Fit from fixed seeds, with the callback or without it, and record everything."""
    pl.seed_everything(11, verbose=False)
    recorder, network = Recorder(), module()
    saver = ModelCheckpoint(dirpath=directory / "saved", save_last=True, every_n_train_steps=3)
    ours = [] if callback is None else [callback]
    defaults: dict[str, Any] = {
        "max_epochs": 2,
        "log_every_n_steps": 1,
        "limit_val_batches": 1,
        "logger": TensorBoardLogger(str(directory), name="", version=""),
    }
    fit = trainer(
        *ours,
        *callbacks(),
        saver,
        recorder,
        enable_checkpointing=True,
        **(defaults | options),
    )
    fit.fit(network, data(), ckpt_path=ckpt_path, weights_only=False)
    checkpoint = torch.load(directory / "saved" / "last.ckpt", weights_only=False)
    content = dict(fingerprint(_without_ours(checkpoint)))
    records = [(hook, _relative(record, directory)) for hook, record in recorder.records]
    points = _points(directory)
    return Run(records, points, _relative(content, directory), network, callback, fit)


def differences(first: Run, second: Run) -> list[str]:
    """Where two runs differ, in words; empty if they are the same bit by bit."""
    found = [
        f"{index} {hook}: {key}: {a.get(key)} != {b.get(key)}"
        for index, ((hook, a), (_, b)) in enumerate(
            zip(first.records, second.records, strict=False)
        )
        for key in sorted(a.keys() | b.keys())
        if a.get(key) != b.get(key)
    ]
    hooks = [[hook for hook, _ in each.records] for each in (first, second)]
    if hooks[0] != hooks[1]:
        found.append(f"hooks: {hooks[0]} != {hooks[1]}")
    for name in ("points", "checkpoint"):
        a, b = getattr(first, name), getattr(second, name)
        found += [f"{name} {k}" for k in sorted(a.keys() | b.keys()) if a.get(k) != b.get(k)]
    return found


def _relative(record: Record, directory: Path) -> Record:
    own = str(directory)
    return {key.replace(own, ""): value.replace(own, "") for key, value in record.items()}


def _without_ours(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    states = checkpoint.get("callbacks", {})
    others = {key: state for key, state in states.items() if not key.startswith(OURS)}
    return {**checkpoint, "callbacks": others}


def _points(directory: Path) -> dict[str, Any]:
    """Every point of the user's own tags in TensorBoard's files; times of writing left out."""
    events = EventAccumulator(str(directory), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    tags = events.Tags()
    kinds = [
        (kind, tag)
        for kind in ("scalars", "tensors", "images", "histograms")
        for tag in tags[kind]
        if not tag.startswith(OURS_IN_FILES)
    ]
    reads = {"scalars": "Scalars", "tensors": "Tensors", "images": "Images"}
    return {
        f"{kind} {tag}": [
            (e.step, repr(getattr(e, "value", e)))
            for e in getattr(events, reads.get(kind, "Histograms"))(tag)
        ]
        for kind, tag in kinds
    }
