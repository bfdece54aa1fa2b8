"""``lightning-hessian``, or ``python -m lightning_hessian``: what can be done with runs on a disk.

``analyze`` measures checkpoints, ``search`` goes on from one to a critical point of its loss, and
``view`` shows what was measured.

The former two are for modules that are given by ``class_path``; a program that fixes the class of
its module gets the same by ``lightning_hessian.cli.HessianCLI(MyModel, MyData)``.
"""

from __future__ import annotations

import os
import sys
from itertools import pairwise

from lightning_hessian.viewing import view

MODULE = "python -m lightning_hessian"
PACKAGES = ("lightning.pytorch", "pytorch_lightning")
MAX_HEADER = 100


def package_of(arguments: list[str]) -> str:
    """Which of the two names of Lightning a configuration is of, as its first line tells.

    Args:
        arguments: Of the command line.

    Returns:
        ``lightning.pytorch`` where nothing tells.
    """
    split = [part for argument in arguments for part in argument.split("=", maxsplit=1)]
    for flag, value in pairwise(split):
        if flag in ("-c", "--config") and os.path.isfile(value):
            with open(value, encoding="utf8", errors="replace") as file:
                header = file.readline(MAX_HEADER)
            for package in PACKAGES:
                if header.startswith(f"# {package}=="):
                    return package
    return PACKAGES[0]


def program_name() -> str:
    """How the program was called: by its own name, or as a module of Python's.

    Returns:
        What a user types.
    """
    name = os.path.basename(sys.argv[0])
    return MODULE if name == "__main__.py" else name


def main() -> None:
    """Run the command line."""
    if sys.argv[1:2] == ["view"]:
        view(sys.argv[2:], program=f"{program_name()} view")
        return
    # not before: it takes seconds to import torch and Lightning, which a view needs not
    from lightning_hessian.cli import cli_of

    base = cli_of(package_of(sys.argv[1:]))
    only = {name: base.subcommands()[name] for name in ("analyze", "search")}
    program = type("Program", (base,), {"subcommands": staticmethod(lambda: only)})
    program(
        parser_kwargs={
            "prog": program_name(),
            "description": "Curvature of the training loss of PyTorch Lightning modules.",
            "epilog": f"`{program_name()} view PATH` shows what was measured: it writes the charts "
            "of runs into one HTML file. See `view --help`.",
        },
    )


if __name__ == "__main__":
    main()
