"""The base class that both names of Lightning take for a callback of theirs."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

from lightning.pytorch import Callback
from lightning_utilities.core import rank_zero
from typing_extensions import override

OTHER = "pytorch_lightning"


class HostCallback(Callback):
    """A callback of ``lightning.pytorch``, and of ``pytorch_lightning`` where that is imported.

    The two packages hold the same code under two names, and each accepts subclasses of its own
    ``Callback`` only. The other one takes a while to import, so that it is not imported for those
    who do not use it: once somebody does, its class becomes a base of this one, and of callbacks
    that are there already.
    """


class _AfterOther(MetaPathFinder):
    """Has the other name's class joined as soon as its import is complete."""

    @override
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != OTHER:
            return None
        place = sys.meta_path.index(self)
        sys.meta_path.remove(self)
        try:
            spec = find_spec(fullname)
        finally:
            # it may be asked for without being imported
            sys.meta_path.insert(place, self)
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module = partial(_execute, spec.loader.exec_module)  # type: ignore[method-assign]
        return spec


def _execute(execute: Callable[[ModuleType], None], module: ModuleType) -> None:
    execute(module)
    _join(module)


def _join(other: ModuleType) -> None:
    HostCallback.__bases__ = (Callback, other.Callback)


if OTHER in sys.modules:
    _join(sys.modules[OTHER])
    # both put their own logger in the same place: the user's, who was there first, shall have it
    _first = next(name for name in sys.modules if name in ("lightning.pytorch", OTHER))
    rank_zero.log = logging.getLogger(f"{_first}.utilities.rank_zero")
else:
    sys.meta_path.insert(0, _AfterOther())
