"""``analyze``: reports for checkpoints that were written without any of our callbacks."""

from __future__ import annotations

from typing import Any, TypeVar, overload

from lightning.pytorch import LightningDataModule, LightningModule, Trainer

from lightning_hessian.analysis.files import Paths, find_checkpoints
from lightning_hessian.analysis.idle_fit import default_trainer, run_idle_fit
from lightning_hessian.analysis.summary import summary
from lightning_hessian.analysis.sweep import CheckpointSweep
from lightning_hessian.callbacks import HessianSpectrum, MeasuringCallback
from lightning_hessian.errors import UnreadableCheckpointError
from lightning_hessian.options import check_choice
from lightning_hessian.records import Report, SpectrumReport, Weights

R = TypeVar("R", bound=Report)


@overload
def analyze(
    model: LightningModule,
    checkpoints: Paths,
    *,
    datamodule: LightningDataModule | None = ...,
    dataloaders: Any = ...,
    weights: Weights = ...,
    callback: None = ...,
    trainer: Trainer | None = ...,
    sidecar: bool = ...,
    weights_only: bool = ...,
    verbose: bool = ...,
) -> list[SpectrumReport]: ...


@overload
def analyze(
    model: LightningModule,
    checkpoints: Paths,
    *,
    datamodule: LightningDataModule | None = ...,
    dataloaders: Any = ...,
    weights: Weights = ...,
    callback: MeasuringCallback[R],
    trainer: Trainer | None = ...,
    sidecar: bool = ...,
    weights_only: bool = ...,
    verbose: bool = ...,
) -> list[R]: ...


def analyze(
    model: LightningModule,
    checkpoints: Paths,
    *,
    datamodule: LightningDataModule | None = None,
    dataloaders: Any = None,
    weights: Weights = "current",
    callback: MeasuringCallback[Any] | None = None,
    trainer: Trainer | None = None,
    sidecar: bool = True,
    weights_only: bool = True,
    verbose: bool = True,
) -> list[Any]:
    """Measure the training loss at the weights of existing checkpoints.

    The checkpoints need to know nothing of this package, nor to hold more than weights. They are
    loaded in turn into a fit that takes no step: setup, precision, strategy, loaders and the hooks
    that begin a fit are those of the training, callbacks and validation are left out. So the
    numbers are the ones that the same callback with the same options measures at these weights in
    training, also of a loss that depends on the epoch or the step. What a module only
    sets batch by batch, in a hook, without saving it, is as its constructor left it.

    Reports are written as JSON beside each checkpoint (``<checkpoint>.<name>.json`` by the
    callback's name, averaged weights ``<checkpoint>.<name>.averaged.json``), to the Trainer's
    loggers at the checkpoint's step, and as a table to the terminal. Checkpoints with equal
    weights, such as ``last.ckpt``, are
    measured once and all listed. Only regular files are read, and only if memory has room for them.
    A file that cannot be read, or is of another module, is skipped with a warning that says why; it
    costs the others nothing. A summary at the end names all that have no numbers.

    Args:
        model: Of the class that was trained. Its weights are left as they are.
        checkpoints: A file; a folder, for every ``*.ckpt`` in it and below; a pattern; or several.
        datamodule: Whose training set the loss is measured on.
        dataloaders: Training loader, in place of a datamodule.
        weights: "current", those that the optimiser moves, or "averaged", of a weight averaging.
        callback: What to measure, on which samples: a :class:`HessianSpectrum`, the default, a
            :class:`LossDifference` or a :class:`CriticalPoint`. Its schedule has no meaning here.
        trainer: A fresh one with the accelerator, precision and loggers to use; its callbacks stand
            aside. By default one device, float32, and TensorBoard in ``lightning_logs``.
        sidecar: Write the JSON files.
        weights_only: Refuse files that hold more than tensors and primitives, since unpickling runs
            code. Give False only for files that you trust.
        verbose: Show a progress bar, and print the table and the summary.

    Returns:
        A report of the callback's kind for each checkpoint, by step; those skipped at the end, with
        the reason as their ``failure``.

    Raises:
        ValueError: If an argument has no meaning, or processes would be spawned.
        UnreadableCheckpointError: If none of the checkpoints can be read; it names all.

    Example:
        >>> import tempfile
        >>> from lightning.pytorch import Trainer
        >>> from lightning.pytorch.demos.boring_classes import BoringModel
        >>> from lightning_hessian import HessianSpectrum, analyze
        >>> model, path = BoringModel(), f"{tempfile.mkdtemp()}/model.ckpt"
        >>> trainer = Trainer(accelerator="cpu", max_epochs=1, logger=False)
        >>> trainer.strategy.connect(model)
        >>> trainer.save_checkpoint(path)  # as a fit does
        >>> callback = HessianSpectrum(num_eigenvalues=1, density=False)
        >>> trainer = Trainer(accelerator="cpu", max_epochs=1, logger=False)
        >>> (report,) = analyze(model, path, callback=callback, trainer=trainer, verbose=False)
        >>> report.global_step, report.num_parameters
        (0, 66)
    """
    check_choice("weights", weights, ("current", "averaged"))
    if callback is not None and callback.weights != "current":
        raise ValueError(
            "`callback` must leave to `analyze` which weights of a file are measured, got one with "
            f"`Loss(weights={callback.weights!r})`. Give `analyze(..., weights='averaged')`."
        )
    if datamodule is not None and dataloaders is not None:
        raise ValueError("`datamodule` and `dataloaders` exclude each other; give one of them.")
    trainer = trainer or default_trainer(model)
    if getattr(trainer, "barebones", False):
        raise ValueError("`trainer` must not be barebones, as that has no loggers to write to.")
    _refuse_spawned(trainer)
    shows_progress = verbose and trainer.progress_bar_callback is not None
    sweep = CheckpointSweep(
        callback or HessianSpectrum(),
        find_checkpoints(checkpoints),
        weights=weights,
        weights_only=weights_only,
        sidecar=sidecar,
        shows_progress=shows_progress,
    )
    run_idle_fit(
        sweep.visit,
        trainer,
        model,
        datamodule=datamodule,
        dataloaders=dataloaders,
        shows_progress=shows_progress,
    )
    _check_outcome(sweep)
    if verbose and trainer.is_global_zero:
        _print(f"{sweep.callback.table(sweep.reports)}\n\n{summary(sweep.reports)}")
    return sweep.reports


def _refuse_spawned(trainer: Trainer) -> None:
    """From processes that Lightning starts by multiprocessing no report comes back."""
    launcher = trainer.strategy.launcher
    if any(base.__name__ == "_MultiProcessingLauncher" for base in type(launcher).__mro__):
        raise ValueError(
            "`trainer` must not spawn its processes from this one, where their reports would be "
            'lost. Give `strategy="ddp"`, or `devices=1`.'
        )


def _print(text: str) -> None:
    """A file's name may hold bytes that are no text."""
    print(text.encode("utf8", "backslashreplace").decode("utf8"))


def _check_outcome(sweep: CheckpointSweep[Any]) -> None:
    if len(sweep.unreadable) == len(sweep.reports):
        reasons = "\n".join(f"  {path}: {reason}" for path, reason in sweep.unreadable.items())
        raise UnreadableCheckpointError(f"none of the checkpoints can be read:\n{reasons}")
