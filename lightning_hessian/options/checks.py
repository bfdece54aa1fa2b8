"""Rules that several options share, and how they are told."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence

LARGEST_SEED = 2**32 - 1
"""As of numpy and of Lightning's ``seed_everything``."""


def is_whole(value: object, least: int) -> bool:
    """Whether a value is a whole number of at least ``least``; True and False are none."""
    return type(value) is int and value >= least


def is_number(value: object) -> bool:
    """Whether a value is a finite number; True and False are none."""
    return isinstance(value, int | float) and type(value) is not bool and math.isfinite(value)


def takes_one(value: object) -> bool:
    """Whether a value can be called with one argument by its place, as far as it tells."""
    if not callable(value):
        return False
    try:
        inspect.signature(value).bind(None)
    except ValueError:
        return True  # of some functions in C nobody knows
    except TypeError:
        return False
    return True


def check_whole(name: str, value: object, least: int) -> None:
    """Refuse what is no whole number of at least ``least``."""
    if not is_whole(value, least):
        raise ValueError(f"`{name}` must be a whole number of at least {least}, got {value!r}.")


def check_seed(seed: object) -> None:
    """Refuse what not every generator takes."""
    if not (is_whole(seed, 0) and seed <= LARGEST_SEED):  # type: ignore[operator]
        raise ValueError(f"`seed` must be a whole number from 0 to {LARGEST_SEED:,}, got {seed!r}.")


def check_positive(name: str, values: object) -> None:
    """Refuse what is no list of positive finite numbers."""
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise ValueError(f"`{name}` must be a list of numbers, got {values!r}.")
    for value in values:
        if not (is_number(value) and value > 0):
            raise ValueError(f"`{name}` must be positive and finite, got {value!r}.")


def check_share(name: str, value: object) -> None:
    """Refuse what does not lie between 0 and 1."""
    if not (isinstance(value, int | float) and is_number(value) and 0 < value < 1):
        raise ValueError(f"`{name}` must lie between 0 and 1, got {value!r}.")


def check_flag(name: str, value: object) -> None:
    """Refuse what is neither True nor False."""
    if not isinstance(value, bool):
        raise ValueError(f"`{name}` must be True or False, got {value!r}.")


def check_choice(name: str, value: object, choices: Sequence[object]) -> None:
    """Refuse what is none of a few values."""
    if value not in choices:
        *others, last = (repr(choice) for choice in choices)
        listed = f"{', '.join(others)} or {last}" if others else last
        raise ValueError(f"`{name}` must be {listed}, got {value!r}.")


def refuse_auto_samples(owner: str, num_samples: object) -> None:
    """Refuse ``"auto"`` where no error tells how many samples are enough."""
    if num_samples == "auto":
        raise ValueError(
            f"`num_samples` of `{owner}` must be a whole number of at least 1 or 'all', got "
            "'auto', which `HessianSpectrum` has."
        )
