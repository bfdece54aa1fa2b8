"""Each protection is needed: without it, the run or the result changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from lightning_hessian.fit import session
from lightning_hessian.sandbox import (
    Sandbox,
    StateSnapshot,
    generators,
    sandbox,
    saved_objects,
    silence,
    state,
)
from tests.helpers.hostile import HostileModule
from tests.helpers.recording import Run, differences, run, spectrum
from tests.invisible.test_settings import AnnealedInStep

Removal = Callable[[pytest.MonkeyPatch], None]


def nothing(*_: Any, **__: Any) -> None:
    return None


def without(owner: Any, name: str, put: Any = nothing) -> Removal:
    return lambda patch: patch.setattr(owner, name, put)


def forget_generators(patch: pytest.MonkeyPatch) -> None:
    def state_of(thing: object) -> Any:
        return None if generators.generator_state(thing) is None else nothing

    patch.setattr(state, "generator_state", state_of)


def forget_trainer(*kept: str) -> Removal:
    """Snapshot only some of the trainer's own dictionaries."""

    def snapshot(self: Sandbox, base: StateSnapshot | None = None) -> StateSnapshot:
        found = {"trainer": vars(self._trainer), "state": vars(self._trainer.state)}
        shallow = [found[name] for name in kept]
        return StateSnapshot([self.module], self._foreign, shallow, base)

    return without(Sandbox, "_snapshot", snapshot)


def forget_foreign(kind: str) -> Removal:
    """Leave one of the things beside the module out of the snapshot."""
    original = Sandbox.__init__

    def init(self: Sandbox, module: Any, *, foreign: Any, trainer: Any, **options: Any) -> None:
        loader = trainer.train_dataloader
        named = {
            "dataset": [loader.dataset],
            "collate": [loader.collate_fn],
            "datamodule": [trainer.datamodule],
            "optimizer": [each.param_groups for each in trainer.optimizers],
            "scheduler": [vars(each.scheduler) for each in trainer.lr_scheduler_configs],
        }[kind]
        kept = [thing for thing in foreign if not any(thing is other for other in named)]
        assert len(kept) < len(foreign)
        if kind in ("dataset", "collate"):
            # the data module leads to them, too
            kept = [thing for thing in kept if thing is not trainer.datamodule]
        original(self, module, foreign=kept, trainer=trainer, **options)

    return without(Sandbox, "__init__", init)


def only_stage(trainer: pl.Trainer) -> None:
    trainer.state.stage = silence.RunningStage.TRAINING


def no_stand_ins(things: Any) -> dict[int, object]:
    return {}


class HoldsWriter(HostileModule):
    """Writes to TensorBoard by a writer of its own."""

    writer: Any = None

    def on_fit_start(self) -> None:
        self.writer = SummaryWriter(self.trainer.log_dir)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.writer.add_scalar("user/writer", float(batch_idx), self.calls)
        return super().training_step(batch, batch_idx)

    def on_fit_end(self) -> None:
        self.writer.close()


class CountsOutside(HostileModule):
    """Counts accumulated gradients where no snapshot sees it, as an optimiser in a hook would."""

    accumulated = 0

    def on_fit_start(self) -> None:
        CountsOutside.accumulated = 0

    def _count(self, parameter: Tensor) -> None:
        CountsOutside.accumulated += 1

    def on_train_batch_end(self, *_: Any) -> None:
        self.trainer.mark = CountsOutside.accumulated


class DrawingLogger(TensorBoardLogger):
    """Draws from a global generator whenever it logs."""

    def log_metrics(self, *args: Any, **options: Any) -> None:
        torch.rand(())
        super().log_metrics(*args, **options)


def drawing_logger(directory: Path) -> dict[str, Any]:
    return {"logger": DrawingLogger(str(directory), name="", version="")}


def in_validation(directory: Path) -> dict[str, Any]:
    saver = pl.callbacks.ModelCheckpoint
    return {
        "callbacks": lambda: [saver(monitor="val_loss", save_top_k=-1)],
        "val_check_interval": 2,
    }


def forget_global_generators(patch: pytest.MonkeyPatch) -> None:
    # the callback holds them once more than the sandbox, for the sake of loggers
    for owner in (sandbox, session):
        patch.setattr(owner, "global_generator_state", lambda: nothing)


def no_copies(patch: pytest.MonkeyPatch) -> None:
    original = Sandbox.__init__

    def init(self: Sandbox, module: Any, **options: Any) -> None:
        original(self, module, **(options | {"copies": False}))

    patch.setattr(Sandbox, "__init__", init)


RUNS: list[Any] = [
    pytest.param(removal, setting, id=name)
    for name, removal, setting in [
        ("global generators", forget_global_generators, {}),
        (
            "global generators of loggers",
            without(session, "global_generator_state", lambda: nothing),
            drawing_logger,
        ),
        ("owned generators", forget_generators, {}),
        ("containers and attributes", without(saved_objects.SavedContainer, "put_back"), {}),
        ("slots", without(saved_objects.SavedSlots, "put_back"), {}),
        ("closures", without(saved_objects.SavedCell, "put_back"), {}),
        ("bits of tensors", without(StateSnapshot, "restore_tensors"), {}),
        ("storage", without(saved_objects.SavedTensor, "_put_back_storage"), {}),
        ("requires_grad", without(saved_objects.SavedTensor, "_put_back_requires_grad"), {}),
        (
            "grad",
            without(saved_objects.SavedTensor, "_put_back_grad"),
            {"accumulate_grad_batches": 3},
        ),
        ("version counters", without(sandbox, "_preserve_versions"), {}),
        ("muted logging", without(sandbox, "mute_logging"), {}),
        ("handed-on log function", without(sandbox, "stand_ins", no_stand_ins), {}),
        ("own writer", without(sandbox, "stand_ins", no_stand_ins), {"module": HoldsWriter}),
        ("loggers", without(sandbox, "silence_trainer", only_stage), {}),
        ("profiler and loggers back", forget_trainer("state"), {}),
        ("stage back", forget_trainer("trainer"), in_validation),
        ("copies for backward()", no_copies, {"precision": "64-true", "module": CountsOutside}),
        ("data set", forget_foreign("dataset"), {}),
        ("collation", forget_foreign("collate"), {}),
        ("data module", forget_foreign("datamodule"), {}),
        ("optimiser settings", forget_foreign("optimizer"), {}),
        ("scheduler", forget_foreign("scheduler"), {"module": AnnealedInStep}),
    ]
]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Any], Run]:
    """The run with the callback, checked once per setting to be the run without."""
    known: dict[str, Run] = {}

    def find(setting: Any) -> Run:
        if repr(setting) not in known:
            base, ours = (
                outcome(tmp_path_factory.mktemp("run"), setting, ours=ours)
                for ours in (False, True)
            )
            assert isinstance(base, Run)
            assert isinstance(ours, Run)
            assert differences(base, ours) == []
            known[repr(setting)] = ours
        return known[repr(setting)]

    return find


def outcome(directory: Path, setting: Any, ours: bool) -> Run | Exception:
    saved = setting is in_validation
    interval = None if saved else 2
    callback = spectrum(at_checkpoints=saved, every_n_train_steps=interval) if ours else None
    try:
        return run(directory, callback, **(setting(directory) if callable(setting) else setting))
    except Exception as error:
        return error


@pytest.mark.sampled
@pytest.mark.parametrize(("removal", "setting"), RUNS)
def test_without_protection_the_run_changes(
    removal: Removal,
    setting: Any,
    guarded: Callable[[Any], Run],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = guarded(setting)
    removal(monkeypatch)
    exposed = outcome(tmp_path, setting, ours=True)
    assert not isinstance(exposed, Run) or differences(expected, exposed)
