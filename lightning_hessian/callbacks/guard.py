"""No exception leaves the hooks of a callback, and none is silent."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from lightning.pytorch import Callback
from lightning.pytorch.utilities import rank_zero_warn

from lightning_hessian.errors import RestorationError

C = TypeVar("C", bound=type[Callback])
CALLED_ELSEWHERE = ("_guarded",)
"""By what watches checkpoints, in the midst of saving one."""
BEGINS, ENDS, SAVES, LOADS = "on_train_start", "teardown", "state_dict", "load_state_dict"


def guarded(cls: C) -> C:
    """Guard every hook of Lightning's that a class of callbacks defines.

    What goes wrong in a hook is told once, and the callback is out of the fit from there on: the
    training goes on without it. A state that cannot be saved or read is left out. Only an error in
    putting the run's state back ends the run, and, with ``on_error="raise"``, any other.

    The class answers ``raises_errors``, ``is_disabled``, ``settle()`` and ``disable(error)``.

    Args:
        cls: To be guarded; what its methods ``CALLED_ELSEWHERE`` raise is treated likewise.

    Returns:
        The class.
    """
    hooks = {name for name in vars(Callback) if name.startswith("on_")}
    hooks |= {BEGINS, ENDS, *CALLED_ELSEWHERE}
    for name, hook in list(vars(cls).items()):
        if name in hooks:
            setattr(cls, name, _hook(name, hook))
        elif name in (SAVES, LOADS):
            setattr(cls, name, _state(hook, {} if name == SAVES else None))
    return cls


def _hook(name: str, hook: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(hook)
    def inside(self: Any, *args: Any, **options: Any) -> Any:
        if name == BEGINS:
            self.is_disabled = False
        if self.is_disabled and name != ENDS:
            return None
        try:
            return hook(self, *args, **options)
        except RestorationError:
            self.settle()
            raise
        except Exception as error:
            self.settle()
            if self.raises_errors:
                _raise_unmistakably(error)
            self.is_disabled = True
            rank_zero_warn(
                f"{type(self).__name__} stops measuring in this fit, as `{name}` failed: "
                f"{type(error).__name__}: {error}. Training goes on unchanged."
            )
            self.disable(error)
            return None

    return inside


def _state(hook: Callable[..., Any], instead: Any) -> Callable[..., Any]:
    @functools.wraps(hook)
    def inside(self: Any, *args: Any) -> Any:
        try:
            return hook(self, *args)
        except Exception as error:
            if self.raises_errors:
                _raise_unmistakably(error)
            rank_zero_warn(
                f"{type(self).__name__} has no part in this checkpoint, as `{hook.__name__}` "
                f"failed: {type(error).__name__}: {error}. Its history begins anew where the "
                "checkpoint is resumed."
            )
            return instead

    return inside


def _raise_unmistakably(error: Exception) -> NoReturn:
    """Raise it with its own cause, but a `StopIteration`: loops take it for the end of the data."""
    if isinstance(error, StopIteration):
        raise RuntimeError(f"StopIteration: {error}") from error
    raise error
