"""A fit that is killed and resumed again and again is the one that Lightning interrupts there."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning.fabric.utilities.cloud_io as saving
import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_hessian import HessianSpectrum, Krylov
from lightning_hessian.show import sidecar
from tests.helpers.faults import PACKAGE
from tests.helpers.fingerprint import fingerprint
from tests.helpers.fitting import loader, trainer
from tests.helpers.restless import Restless, Shaken

NUM_KILLS = int(os.environ.get("HESSIAN_KILLS", "4"))
SEED = int(os.environ.get("HESSIAN_KILLS_SEED", "0"))
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
MOMENTS = {
    "anything of ours": PACKAGE,
    "a checkpoint": saving.__file__,
    "a report": sidecar.__file__,
}
EVERY = 3
STEPS_OF_A_LIFE = 7


class Interruption(Exception):
    """Raised by a callback that ends a fit, as any error of the user's does."""


class StopsAt(pl.Callback):
    """Ends the fit when a step is done and its checkpoint is saved."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            raise Interruption


class Calls:
    """Counts what is called while functions of some files run; at one call, sends a signal.

    These are as many moments in the midst of a measurement, or of writing a file.
    """

    def __init__(
        self, root: str, at: int = -1, signum: int = signal.SIGKILL, mark: Path | None = None
    ) -> None:
        self.root, self.at, self.signum, self.mark = root, at, signum, mark
        self.count = 0
        self._inside: list[bool] = []

    def __call__(self, frame: Any, event: str, _: Any) -> None:
        is_inside = bool(self._inside) and self._inside[-1]
        if event == "return":
            if self._inside:
                self._inside.pop()
            return
        if event == "call":
            is_inside = is_inside or frame.f_code.co_filename.startswith(self.root)
            self._inside.append(is_inside)
        if is_inside and event in ("call", "c_call"):
            self.count += 1
            if self.count - 1 == self.at and self.mark is not None:
                self.mark.touch()
                os.kill(os.getpid(), self.signum)


def measured() -> HessianSpectrum:
    return HessianSpectrum(
        every_n_train_steps=2,
        at_checkpoints=True,
        max_overhead=None,
        num_eigenvalues=1,
        density=False,
        solver=Krylov(max_hvps=8),
    )


def fit(directory: Path, *callbacks: pl.Callback, steps: int, resume: Path | None) -> list[Any]:
    """The bits of a fit at its end, as any program would run it: seeded, from a file or none."""
    pl.seed_everything(5, verbose=False)
    saver = ModelCheckpoint(directory, every_n_train_steps=EVERY, save_top_k=-1, save_last=True)
    module = Restless()
    run = trainer(*callbacks, saver, enable_checkpointing=True, max_steps=steps, max_epochs=-1)
    run.fit(module, loader(Shaken(), shuffle=True), ckpt_path=resume, weights_only=True)
    state = [module.state_dict(), *(optimizer.state_dict() for optimizer in run.optimizers)]
    state += [config.scheduler.state_dict() for config in run.lr_scheduler_configs]
    return [*fingerprint([state, run.global_step]), *torch.rand(2).tolist()]


def last(directory: Path) -> Path | None:
    path = directory / "last.ckpt"
    return path if path.exists() else None


def step_of(path: Path | None) -> int:
    return 0 if path is None else int(torch.load(path, weights_only=True)["global_step"])


def life(directory: Path, calls: Calls) -> None:
    """A process that resumes, and dies sooner or later."""
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - of a process that is about to die
    torch.set_num_threads(1)
    resume = last(directory)
    sys.setprofile(calls)
    fit(directory, measured(), steps=-1, resume=resume)


def interrupted(
    directory: Path, steps: list[int], callbacks: Callable[[], list[HessianSpectrum]]
) -> tuple[list[Any], list[HessianSpectrum]]:
    """The same fit, interrupted by an error wherever the killed one was resumed."""
    resume = None
    for step in steps[1:]:
        with pytest.raises(Interruption):
            # of as many steps at most as a life, by which Lightning resumes otherwise
            fit(directory, *callbacks(), StopsAt(step), steps=-1, resume=resume)
        resume = last(directory)
        assert step_of(resume) == step
    final = callbacks()
    return fit(directory, *final, steps=steps[-1] + STEPS_OF_A_LIFE, resume=resume), final


def kinds(count: int) -> Iterator[tuple[str, int]]:
    for number in range(count):
        yield list(MOMENTS)[number % len(MOMENTS)], SIGNALS[number % len(SIGNALS)]


def numbers(callback: HessianSpectrum) -> list[str]:
    left_out = ("seconds", "gradient_seconds", "ckpt_path")
    return [
        repr({name: value for name, value in report.to_dict().items() if name not in left_out})
        for report in callback.reports
    ]


def counted(directory: Path, root: str) -> int:
    """Calls in one life."""
    calls = Calls(root)
    sys.setprofile(calls)
    fit(directory, measured(), steps=STEPS_OF_A_LIFE, resume=None)
    sys.setprofile(None)
    return calls.count


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch")
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_killed_fits_resume_as_those_that_lightning_interrupts(tmp_path: Path) -> None:
    draw, context = random.Random(SEED), multiprocessing.get_context("fork")
    counts = {name: counted(tmp_path / name, root) for name, root in MOMENTS.items()}
    directory, steps = tmp_path / "killed", [0]
    for name, signum in kinds(NUM_KILLS):
        mark = tmp_path / "struck"
        calls = Calls(MOMENTS[name], draw.randrange(counts[name]), signum, mark)
        child = context.Process(target=life, args=(directory, calls))
        child.start()
        child.join()
        mark.unlink()
        steps.append(step_of(last(directory)))
    callback = measured()
    end = steps[-1] + STEPS_OF_A_LIFE
    killed = fit(directory, callback, steps=end, resume=last(directory))
    resumed = sorted(set(steps))
    bare, _ = interrupted(tmp_path / "bare", resumed, list)
    assert killed == bare
    alive, (other,) = interrupted(tmp_path / "measured", resumed, lambda: [measured()])
    assert alive == bare
    assert numbers(callback) == numbers(other)
    # up to the first interruption, from where on Lightning goes on with other batches
    whole = measured()
    fit(tmp_path / "whole", whole, steps=resumed[1], resume=None)
    assert numbers(callback)[: len(whole.reports) - 1] == numbers(whole)[:-1]
    print(NUM_KILLS, SEED, steps)
