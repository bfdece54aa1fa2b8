"""Whether the disks have room for what a callback writes beside the run's own files."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path

from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.nn.parameter import is_lazy

from lightning_hessian.errors import NoRoomError

SPARE = 64 * 2**20
"""Bytes that are left to the run on each disk, beside a checkpoint: more than all that is written
of a report."""
LEAST = 8 * 2**20
"""The same for a history in a checkpoint: more than the largest takes."""
Place = str | os.PathLike[str] | None
"""A folder that may be about to be made, an address, or unknown."""
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Room:
    """Lets a callback write while there is room for more than the run's own files.

    The first lack of room ends the writing of the fit, with an error that says so; from then on
    nothing is written and nothing said. So what is written can take no room that the run's next
    checkpoint needs, nor the last of a disk.
    """

    def __init__(self) -> None:
        self._trainer: Trainer | None = None
        self._is_over = self._is_told_of_history = False

    def begin(self, trainer: Trainer) -> None:
        """A fit begins: there may be room again."""
        self._trainer = trainer
        self._is_over = self._is_told_of_history = False

    def end(self) -> None:
        """The fit is over."""
        self._trainer = None

    @property
    def is_short(self) -> bool:
        """Whether checkpoints should grow by little more than the run's own."""
        return self._is_over or self._shortage(self._of_checkpoints()) is not None

    def admits_history(self) -> bool:
        """Whether a history may go into a checkpoint, which is to find room in any case.

        Raises:
            NoRoomError: The first time in a fit that it may not.
        """
        shortage = self._shortage(self._of_checkpoints(), LEAST)
        if shortage is None:
            return True
        if self._is_told_of_history:
            return False
        self._is_told_of_history = True
        raise NoRoomError(f"{shortage}. Nor has any later one that finds as little room")

    def write(self, act: Callable[[], None], places: Iterable[Place]) -> None:
        """Do what writes into some places, if there is room.

        Raises:
            NoRoomError: If there is none, or it fails for want of room; once in a fit.
        """
        if self._is_over:
            return
        shortage = self._shortage(places)
        self._is_over = shortage is not None
        if shortage is not None:
            raise NoRoomError(f"{shortage}. {STOPPED}")
        try:
            act()
        except Exception as error:
            if not _is_of_a_full_disk(error):
                raise
            self._is_over = True
            raise NoRoomError(f"a disk took no more ({error}). {STOPPED}") from error

    def _shortage(self, places: Iterable[Place], spare: int = SPARE) -> str | None:
        """Which of some places has too little room, in words."""
        if self._trainer is None:
            return None
        saves_on = {folder.stat().st_dev for folder in _folders(self._of_checkpoints())}
        for folder in _folders(places):
            needed = spare
            if folder.stat().st_dev in saves_on:
                needed += _size_of_checkpoint(self._trainer.lightning_module)
            disk = shutil.disk_usage(folder)
            # a disk without a size does not tell
            if disk.total and disk.free < needed:
                return (
                    f"{_megabytes(disk.free)} are free on the disk of {folder}, and "
                    f"{_megabytes(needed)} are left to the run's own checkpoints and logs"
                )
        return None

    def _of_checkpoints(self) -> list[Place]:
        savers = [] if self._trainer is None else self._trainer.checkpoint_callbacks
        return [getattr(saver, "dirpath", None) for saver in savers]


STOPPED = "Nothing more is written in this fit; the history travels in its checkpoints"


def _folders(places: Iterable[Place]) -> Iterator[Path]:
    """The folders that there are already of places on this machine."""
    for place in places:
        if place and "://" not in os.fspath(place):
            path = Path(place).absolute()
            yield next(each for each in (path, *path.parents) if each.exists())


def _size_of_checkpoint(module: LightningModule) -> int:
    """Bytes of the weights and of two moments of each, and of a vector of ours."""
    sizes = [
        (_bytes(tensor), tensor.requires_grad)
        for tensor in chain(module.parameters(), module.buffers())
        if not is_lazy(tensor)
    ]
    return sum(size + 3 * size * is_trained for size, is_trained in sizes)


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _is_of_a_full_disk(error: BaseException | None) -> bool:
    """Whether it is an error of room, or was raised because of one."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return True
        error = error.__cause__ or error.__context__
    return False


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"
