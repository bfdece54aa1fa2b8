"""Pictures for those loggers beside TensorBoard's that take such."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from lightning_hessian.show.media.taker import Image, Taker
from lightning_hessian.show.media.takers import give_each, raise_first


class PictureWriter:
    """Gives pictures as they are made.

    A logger that fails to take one is asked for no other: it would be told of each time.

    Args:
        prefix: First part of all names.
    """

    def __init__(self, *, prefix: str) -> None:
        self._prefix = prefix
        # of loggers only this, as a callback is pickled for processes that are spawned
        self._failed: set[int] = set()

    @rank_zero_only
    def write(self, loggers: Sequence[Logger], step: int, images: Mapping[str, Image]) -> None:
        """Give pictures of a step; on the first process only.

        Args:
            loggers: The Trainer's.
            step: Of the report that they are of.
            images: Last part of the name to image.
        """

        def give(taker: Taker) -> None:
            for name, image in images.items():
                taker.take_image(image, name=f"{self._prefix}/{name}", step=step)

        asked = [logger for logger in loggers if id(logger) not in self._failed]
        failed = give_each(asked, give)
        self._failed.update(map(id, failed))
        raise_first(failed, "took no picture of it, and is given none any more")
