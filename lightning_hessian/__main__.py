"""``python -m lightning_hessian``: what can be done with checkpoints, from the command line.

``analyze`` measures them, ``search`` goes on from one to a critical point of its loss.

For modules that are given by ``class_path``; a program that fixes the class of its module gets the
same by ``lightning_hessian.cli.HessianCLI(MyModel, MyData)``.
"""

from __future__ import annotations

import os
import sys
from itertools import pairwise

from lightning_hessian.cli import cli_of

PROGRAM = "python -m lightning_hessian"
PACKAGES = ("lightning.pytorch", "pytorch_lightning")
MAX_HEADER = 100
ANALYZE = f"""{PROGRAM} analyze --config CONFIG --ckpt_path CHECKPOINTS [options]

  CONFIG is the config.yaml that a LightningCLI saved beside the training's logs. Without one, give
  --model and --data. What is measured is said by --spectrum.*, as at the end of this list.

examples:
  {PROGRAM} analyze --config runs/version_0/config.yaml --ckpt_path runs/version_0
  {PROGRAM} analyze --config config.yaml --ckpt_path "runs/*/last.ckpt" \\
      --weights averaged --spectrum.num_samples 512

ends with 0 if all checkpoints were measured, 3 if only some were, 1 if none was, and 2 if an
option is wrong"""
SEARCH = f"""{PROGRAM} search --config CONFIG --ckpt_path CHECKPOINT --target TARGET [options]

  CONFIG is the config.yaml that a LightningCLI saved beside the training's logs. Without one, give
  --model and --data. TARGET is minimum, nearest, or the index of a saddle.

examples:
  {PROGRAM} search --config runs/version_0/config.yaml \\
      --ckpt_path runs/version_0/checkpoints/last.ckpt --target minimum --weight_decay optimizer
  {PROGRAM} search --config runs/version_0/config.yaml \\
      --ckpt_path runs/version_0/checkpoints/minimum-of-last.ckpt  # goes on

ends with 0 if what was looked for was found, 3 if not, 1 if there was no search, and 2 if an option
is wrong"""


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


def main() -> None:
    """Run the command line."""
    base = cli_of(package_of(sys.argv[1:]))
    only = {name: base.subcommands()[name] for name in ("analyze", "search")}
    program = type("Program", (base,), {"subcommands": staticmethod(lambda: only)})
    program(
        parser_kwargs={
            "prog": PROGRAM,
            "description": "Curvature of the training loss of PyTorch Lightning modules.",
            "analyze": {"usage": ANALYZE},
            "search": {"usage": SEARCH},
        },
    )


if __name__ == "__main__":
    main()
