"""Every checkpoint is loaded in turn, and measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn
from tqdm.auto import tqdm

from lightning_hessian.analysis.files import brief, read_checkpoint
from lightning_hessian.analysis.loading import Loaded, load_checkpoint
from lightning_hessian.callbacks import MeasuringCallback
from lightning_hessian.errors import UnreadableCheckpointError
from lightning_hessian.records import Report, Weights
from lightning_hessian.show import write_sidecar

R = TypeVar("R", bound=Report)
TOO_LATE = "the process was told to end before this checkpoint was measured"


class CheckpointSweep(Generic[R]):
    """Measures checkpoints at the start of a fit.

    What is decided along the way, such as that a file cannot be read, all processes decide alike.

    Args:
        callback: Measures; not among the Trainer's callbacks.
        paths: Of the checkpoints.
        weights: Which of the weights in them.
        weights_only: Refuse objects other than tensors and primitives in them.
        sidecar: Whether to write each report beside its checkpoint.
        shows_progress: Whether to show a bar over the files.
    """

    def __init__(
        self,
        callback: MeasuringCallback[R],
        paths: Sequence[str],
        *,
        weights: Weights,
        weights_only: bool,
        sidecar: bool,
        shows_progress: bool,
    ) -> None:
        self.reports: list[R] = []
        self.unreadable: dict[str, str] = {}
        self.callback = callback
        self._paths = paths
        self._weights: Weights = weights
        self._weights_only = weights_only
        self._sidecar = sidecar
        self._shows_progress = shows_progress
        self._by_digest: dict[str, R] = {}

    def visit(self, trainer: Trainer, module: LightningModule, restore: Callable[[], None]) -> None:
        """Measure each; a :data:`~lightning_hessian.analysis.idle_fit.Visit`."""
        # there is no training whose time could be shared
        self.callback.begin(trainer, module, trains=False)
        paths = trainer.strategy.broadcast(self._surveyed() if trainer.is_global_zero else [])
        shown = tqdm(
            paths, desc="Checkpoints", unit="file", disable=None if self._shows_progress else True
        )
        try:
            for path in shown:
                restore()
                self._take(path, trainer, module)
                if trainer.strategy.reduce_boolean_decision(trainer.received_sigterm, all=False):
                    break
        finally:
            shown.close()
            restore()
            self.callback.teardown(trainer, module, "fit")
        self.unreadable = trainer.strategy.broadcast(self.unreadable)
        reported = {report.ckpt_path for report in self.reports} | self.unreadable.keys()
        late = {path: TOO_LATE for path in paths if path not in reported}
        self.reports += [
            self.callback.report_type(failure=reason, weights=self._weights, ckpt_path=path)
            for path, reason in (late | self.unreadable).items()
        ]

    def _surveyed(self) -> list[str]:
        """The readable checkpoints in the order of their steps."""
        steps: dict[str, tuple[int, int]] = {}
        for path in self._paths:
            try:
                seen = read_checkpoint(path, weights_only=self._weights_only, only_survey=True)
                steps[path] = (seen["global_step"], seen["epoch"])
            except UnreadableCheckpointError as error:
                # nothing else is raised by a file, whatever it holds
                self._skip(path, error)
        return sorted(steps, key=lambda path: steps[path])

    def _take(self, path: str, trainer: Trainer, module: LightningModule) -> None:
        """Load one checkpoint, measure it unless its equal has been measured, write."""
        problem: Exception | None = None
        loaded: Loaded | None = None
        try:
            content = read_checkpoint(path, weights_only=self._weights_only)
            mode = self.callback.mode
            loaded = load_checkpoint(content, trainer, module, weights=self._weights, mode=mode)
        except Exception as error:
            # hooks of the user's too: what they raise about one file is no reason to leave the rest
            problem = error
        if not trainer.strategy.reduce_boolean_decision(problem is None, all=True):
            self._skip(path, problem or UnreadableCheckpointError("another process cannot read it"))
            return
        assert loaded is not None
        report = self._by_digest.get(loaded.digest)
        if report is None:
            report = self._measured(path, trainer, loaded)
        if report is None:
            return
        self._by_digest[loaded.digest] = report
        notes = (*report.notes, *loaded.of_file)
        self.reports.append(dataclasses.replace(report, ckpt_path=path, notes=notes))
        if self._sidecar:
            self._write(self.reports[-1], path)

    def _measured(self, path: str, trainer: Trainer, loaded: Loaded) -> R | None:
        """The report of the weights loaded, or None if the process was told to end meanwhile."""
        callback = self.callback
        num_reports = len(callback.reports)
        callback.measure_again(trainer, path)
        if len(callback.reports) == num_reports:
            return None
        measured = callback.reports[-1]
        callback.reports[-1] = dataclasses.replace(
            measured, weights=self._weights, notes=(*measured.notes, *loaded.notes)
        )
        return callback.reports[-1]

    def _skip(self, path: str, error: Exception) -> None:
        known = isinstance(error, UnreadableCheckpointError)
        self.unreadable[path] = str(error) if known else brief(error)
        rank_zero_warn(f"The checkpoint {path} is skipped: {self.unreadable[path]}.")

    @rank_zero_only
    def _write(self, report: R, path: str) -> None:
        name = self.callback.name
        name = name if self._weights == "current" else f"{name}.{self._weights}"
        try:
            write_sidecar(report, path, name=name)
        except OSError as error:
            rank_zero_warn(
                f"The report of {path} could not be written beside it: {error}. It is returned and "
                "logged all the same; give `sidecar=False` for folders that cannot be written."
            )
