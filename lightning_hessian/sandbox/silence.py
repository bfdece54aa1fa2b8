"""Keeps a training step's words to itself: its logs, its profile, and what it would use up."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from types import MethodType
from typing import Any, NoReturn

from lightning.pytorch import Trainer
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.trainer.states import RunningStage
from torch import nn

from lightning_hessian.errors import RefusedError
from lightning_hessian.sandbox.state import has_visible_attributes

_MUTED = ("log", "log_dict", "print")


def silence_trainer(trainer: Trainer) -> None:
    """Make the trainer say that it trains, to loggers that are dummies.

    Its own attributes are to be put back by the caller.
    """
    trainer.state.stage = RunningStage.TRAINING
    trainer.loggers = [DummyLogger() for _ in trainer.loggers]
    trainer.profiler = PassThroughProfiler()  # type: ignore[attr-defined]


def mute_logging(module: nn.Module) -> None:
    """Shadow ``self.log`` and its like on every LightningModule in a module.

    Each is also told that its ``training_step`` is running, as the loop does. The shadows are
    attributes of the instances, to be put back by the caller.
    """
    for part in module.modules():
        if hasattr(part, "training_step") and hasattr(part, "log_dict"):
            part.__dict__.update(dict.fromkeys(_MUTED, _ignore))
            part.__dict__["_current_fx_name"] = "training_step"


def stand_ins(things: Iterable[object]) -> dict[int, object]:
    """Find what would write to the user's files, or run out, and what to put in its place.

    A logger, a TensorBoard writer or a handed-on ``self.log`` gets a dummy. An iterator or an open
    file, whose position cannot be put back, gets an object that refuses to be used. By the identity
    of what they stand in for.
    """
    found: dict[int, object] = {}
    for thing in things:
        kind = type(thing)
        if isinstance(thing, MethodType):
            if thing.__name__ in _MUTED and hasattr(thing.__self__, "log_dict"):
                found[id(thing)] = _ignore
        elif hasattr(kind, "log_metrics") and hasattr(kind, "experiment"):
            found[id(thing)] = DummyLogger()
        elif hasattr(kind, "add_scalar") and hasattr(kind, "add_histogram"):
            found[id(thing)] = DummyLogger().experiment
        elif isinstance(thing, io.IOBase) or (
            hasattr(kind, "__next__") and not has_visible_attributes(thing)
        ):
            found[id(thing)] = _Unrepeatable(kind.__name__)
    return found


def _ignore(*_: Any, **__: Any) -> None:
    """Take the place of ``self.log`` while a measurement runs."""


class _Unrepeatable:
    """Stands in for something that changes for good when it is used."""

    def __init__(self, kind: str) -> None:
        self.__dict__["_kind"] = kind

    def _refuse(self) -> NoReturn:
        raise RefusedError(
            f"`training_step` uses a {self._kind} that the module holds, whose position cannot be "
            "put back after a measurement. Define `hessian_loss(self, batch, batch_idx)` without "
            "it, or keep an index and fetch by it."
        )

    def __getattr__(self, name: str) -> NoReturn:
        self._refuse()

    def __next__(self) -> NoReturn:
        self._refuse()

    def __iter__(self) -> Iterator[Any]:
        self._refuse()
