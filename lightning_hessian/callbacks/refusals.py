"""On a command line an option out of its range is a wrong argument: the reason, and code 2."""

from __future__ import annotations

import sys
from typing import Any, NoReturn

import jsonargparse

from lightning_hessian.callbacks.callback import MeasuringCallback
from lightning_hessian.options import Loss, Perturbations, Solver, Surface

WRONG_ARGUMENT = 2
MADE = (MeasuringCallback, Solver, Loss, Perturbations, Surface)
"""What a configuration makes of ours."""


def refuse(reason: object) -> NoReturn:
    """End the program.

    Args:
        reason: Why.

    Raises:
        SystemExit: With the code of a wrong argument.
    """
    sys.stderr.write(f"error: {reason}\n")
    raise SystemExit(WRONG_ARGUMENT)


def made(kind: type, *args: Any, **kwargs: Any) -> Any:
    """Make an object as a configuration says; what its class refuses ends the program.

    Args:
        kind: Its class.
        args: Of the class.
        kwargs: Of the class.

    Returns:
        The object.
    """
    try:
        return kind(*args, **kwargs)
    except ValueError as error:
        refuse(error)


def refuse_wrong_options(parser: Any) -> None:
    """Have what a parser makes of ours made by :func:`made`.

    Args:
        parser: Of jsonargparse, or jsonargparse itself for every parser, which it knows since 4.49.
    """
    for kind in MADE:
        parser.add_instantiator(made, kind)


HAS_EVERY_PARSER = hasattr(jsonargparse, "add_instantiator")
if HAS_EVERY_PARSER:
    refuse_wrong_options(jsonargparse)
