"""What a logger is asked for that takes more than numbers."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt
from lightning.pytorch.loggers import Logger

Image = npt.NDArray[np.uint8]
"""``(height, width, 3)``."""


class Taker(Protocol):
    """A logger that takes pictures and pages."""

    def take_image(self, image: Image, *, name: str, step: int) -> None:
        """Keep a picture of a step, beside those of the same name of other steps."""

    def take_page(self, page: str, *, name: str, step: int) -> None:
        """Keep an HTML document, made at a step."""


def has_method(logger: Logger, name: str) -> bool:
    """Whether what a logger logs to is of a class with such a method.

    The class is asked: of a dummy, as in a ``fast_dev_run``, every attribute is there.
    """
    return hasattr(type(getattr(logger, "experiment", None)), name)
