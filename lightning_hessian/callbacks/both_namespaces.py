"""The base class that both names of Lightning take for a callback of theirs."""

from __future__ import annotations

import logging
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

from lightning.pytorch import Callback
from lightning_utilities.core import rank_zero

if TYPE_CHECKING or find_spec("pytorch_lightning") is None:
    HostCallback = Callback
else:
    import pytorch_lightning

    class HostCallback(Callback, pytorch_lightning.Callback):
        """A callback of ``lightning.pytorch`` and of ``pytorch_lightning``.

        The two packages hold the same code under two names, and the command line of each accepts
        subclasses of its own ``Callback`` only.
        """

    # both put their own logger in the same place: the user's, who was there first, shall have it
    _first = next(
        name for name in sys.modules if name in ("lightning.pytorch", "pytorch_lightning")
    )
    rank_zero.log = logging.getLogger(f"{_first}.utilities.rank_zero")
