"""The checkpoints that a fit saves: measured before, and a report beside each afterwards."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_only

from lightning_hessian.fit.room import Room
from lightning_hessian.records import Report
from lightning_hessian.show import sidecar_ending, sidecar_path, write_sidecar
from lightning_hessian.whole_files import remove_drafts, write_whole

TEMPORARY = (".lr_find_", ".scale_batch_size_", "hpc_ckpt_")
"""How tuners and the requeueing of a cluster name their files; the latter in a signal handler."""


class CheckpointWatch:
    """Tells of every checkpoint that a Trainer saves, before and after, whoever asks for it.

    All ways to a checkpoint go through ``trainer.save_checkpoint``: :class:`ModelCheckpoint` in all
    its manners (one that saves weights only calls no hook of callbacks), savers on exceptions, and
    the user. The method is shadowed on the instance while a fit runs. All that is told
    goes through ``guard``, which raises nothing.
    """

    def __init__(
        self,
        trainer: Trainer,
        *,
        before: Callable[[str], None],
        after: Callable[..., None],
        guard: Callable[[Callable[[], None]], None],
    ) -> None:
        self._trainer = trainer
        self._is_watching = True
        original = trainer.save_checkpoint

        @wraps(original)
        def save_checkpoint(filepath: str | Path, *args: Any, **kwargs: Any) -> None:
            # nothing else here: what this raises, the user's saver raises
            guard(partial(self._tell, before, filepath))
            original(filepath, *args, **kwargs)
            weights_only = bool(kwargs.get("weights_only", args[0] if args else False))
            guard(partial(self._tell, partial(after, weights_only=weights_only), filepath))

        self._shadow = save_checkpoint
        trainer.__dict__["save_checkpoint"] = save_checkpoint

    def _tell(self, listener: Callable[[str], None], filepath: str | Path) -> None:
        path = os.fspath(filepath)
        if self._is_watching and not os.path.basename(path).startswith(TEMPORARY):
            listener(path)

    def end(self) -> None:
        """Stop telling. A shadow that another one lies upon stays, and does nothing."""
        self._is_watching = False
        if self._trainer.__dict__.get("save_checkpoint") is self._shadow:
            del self._trainer.__dict__["save_checkpoint"]


class Sidecars:
    """Keeps the reports beside checkpoints in step with the files.

    :class:`ModelCheckpoint` overwrites files, deletes those that fall out of the best k, and links
    ``last.ckpt`` to another one; the latter two after the checkpoint is saved and without a word. A
    checkpoint may also be written by another thread, and be there only some time after it is saved.
    Drafts that a kill has left in a folder go when it is first looked at.
    """

    def __init__(self, trainer: Trainer, name: str, room: Room) -> None:
        self._trainer = trainer
        self._name = name
        self._room = room
        self._is_settled = False
        self._tidied: set[str] = set()
        ending = sidecar_ending(name)
        folders = {saver.dirpath for saver in self._savers() if saver.dirpath is not None}
        for each in folders:
            self._tidy(each)
        found = (path for each in folders for path in glob.glob(f"{glob.escape(each)}/*.json"))
        beside = (path.removesuffix(ending) for path in found if path.endswith(ending))
        # whether each has been seen on the disk: what has not may be about to come
        self._checkpoints = dict.fromkeys(filter(os.path.exists, beside), True)

    def note(self, ckpt_path: str) -> None:
        """A report now stands beside this checkpoint."""
        if "://" not in ckpt_path:
            self._checkpoints[os.path.abspath(ckpt_path)] = False
            self._look_for_awaited()
            self._is_settled = False

    def drop(self, ckpt_path: str) -> None:
        """Remove what stands beside a checkpoint that is about to be overwritten, if there is one.

        A report that stayed would be of other weights than the file, for good where the new ones
        are not measured. The same goes for a link, which may follow.
        """
        links = [saver.last_model_path for saver in self._savers() if saver.save_last == "link"]
        for path in (ckpt_path, *filter(None, links)):
            if "://" not in path:
                Path(sidecar_path(path, self._name)).unlink(missing_ok=True)
                self._tidy(os.path.dirname(os.path.abspath(path)))
        self._is_settled = False

    def settle(self) -> None:
        """Remove reports of deleted checkpoints, put copies beside links; cheap if nothing is."""
        if self._is_settled:
            return
        self._look_for_awaited()
        seen = [ckpt_path for ckpt_path, is_seen in self._checkpoints.items() if is_seen]
        for ckpt_path in seen:
            if not os.path.lexists(ckpt_path):
                del self._checkpoints[ckpt_path]
                Path(sidecar_path(ckpt_path, self._name)).unlink(missing_ok=True)
        self._is_settled = all(self._checkpoints.values())
        for saver in self._savers():
            link = saver.last_model_path
            if saver.save_last == "link" and link and os.path.exists(link):
                self._room.write(partial(self._copy_beside, link), [os.path.dirname(link)])

    def _look_for_awaited(self) -> None:
        # also at each new one: the one before may be there now, and be deleted for its sake
        for ckpt_path, is_seen in self._checkpoints.items():
            self._checkpoints[ckpt_path] = is_seen or os.path.lexists(ckpt_path)

    def _copy_beside(self, link: str) -> None:
        source = Path(sidecar_path(os.path.realpath(link), self._name))
        if source.exists():
            write_whole(Path(sidecar_path(link, self._name)), source.read_bytes())
            self._checkpoints[link] = True

    def _tidy(self, folder: str) -> None:
        if folder not in self._tidied:
            self._tidied.add(folder)
            remove_drafts(folder, sidecar_ending(self._name))

    def _savers(self) -> list[Any]:
        savers = self._trainer.checkpoint_callbacks
        return [saver for saver in savers if hasattr(saver, "last_model_path")]


class CheckpointReports:
    """Has the weights of each checkpoint measured before it is saved, and writes the report beside.

    Where nothing is measured, a checkpoint gets a report beside it if its weights were measured
    last.
    """

    def __init__(
        self,
        trainer: Trainer,
        *,
        name: str,
        room: Room,
        measure: Callable[[str], None],
        present: Callable[[bool], Report | None],
        attempt: Callable[[Callable[[], None]], None],
        guard: Callable[[Callable[[], None]], None],
    ) -> None:
        self._trainer = trainer
        self._name = name
        self._measure = measure
        self._present = present
        self._attempt = attempt
        self._room = room
        self._sidecars = Sidecars(trainer, name, room)
        self._watch = CheckpointWatch(trainer, before=self._before, after=self._after, guard=guard)

    @rank_zero_only
    def settle(self) -> None:
        """Follow what was deleted and linked since."""
        self._attempt(self._sidecars.settle)

    def end(self) -> None:
        """The fit is over."""
        self.settle()
        self._watch.end()

    def _before(self, ckpt_path: str) -> None:
        self._measure(ckpt_path)
        self._drop(ckpt_path)

    def _after(self, ckpt_path: str, weights_only: bool) -> None:
        report = self._present(weights_only)
        if report is not None:
            write = partial(self._write, report, ckpt_path)
            self._attempt(partial(self._room.write, write, [os.path.dirname(ckpt_path)]))

    @rank_zero_only
    def _drop(self, ckpt_path: str) -> None:
        self._attempt(lambda: self._sidecars.drop(ckpt_path))

    @rank_zero_only
    def _write(self, report: Report, ckpt_path: str) -> None:
        write_sidecar(report, ckpt_path, name=self._name)
        self._sidecars.note(ckpt_path)
