"""A configuration of a program that fixes its classes, read by one to which they are given."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import yaml

from lightning_hessian.configurations import load_bounded

EXAMPLES = {"model": "your_package.Net", "data": "your_package.Data"}


def classes_first(arguments: Sequence[str], command: str, keys: Sequence[str]) -> list[str]:
    """Name the classes before the configurations too, as the parser reads from left to right.

    What a program with fixed classes saves of them are their arguments alone.

    Args:
        arguments: Of the command line.
        command: After which its own begin.
        keys: Of what the program itself has no class for.

    Returns:
        The arguments, with those that name a class at the beginning of the command's too.
    """
    begin = arguments.index(command) + 1
    named = [f"--{key}={value}" for key in keys for value in _values(arguments, f"--{key}")[-1:]]
    return [*arguments[:begin], *named, *arguments[begin:]]


def what_is_missing(arguments: Sequence[str], keys: Sequence[str]) -> str | None:
    """Why the configurations are not enough; None if they are, or are no such files.

    Args:
        arguments: Of the command line.
        keys: Of what the program itself has no class for.

    Returns:
        What to give.
    """
    for path in [*_values(arguments, "-c"), *_values(arguments, "--config")]:
        missing = [key for key in _bare_sections(path, keys) if not _values(arguments, f"--{key}")]
        if missing:
            given = " ".join(f"--{key} {EXAMPLES[key]}" for key in missing)
            return (
                f"`{missing[0]}` in {path} has no class_path, as a program that fixes its classes "
                f"saves it, got its arguments alone. Say which class it is: {given}. Or let that "
                "program be a lightning_hessian.cli.HessianCLI(Net, Data), which has this command "
                "too."
            )
    return None


def with_class(checkpoint: Mapping[str, Any], model: Any) -> dict[str, Any] | None:
    """The hyperparameters in a checkpoint as those of the class that is given.

    As ``load_from_checkpoint`` does, without those that the class does not take.

    Args:
        checkpoint: The content of the file.
        model: What is known of the module.

    Returns:
        A part of a configuration; None if the file names the class by itself, or there are none.
    """
    kept = dict(checkpoint.get("hyper_parameters") or {})
    path = model.get("class_path") if hasattr(model, "get") else None
    if not kept or "_class_path" in kept or path is None:
        return None
    taken = inspect.signature(resolve_name(path)).parameters
    if not any(each.kind is each.VAR_KEYWORD for each in taken.values()):
        kept = {name: value for name, value in kept.items() if name in taken}
    return {"class_path": path, "init_args": kept}


def _values(arguments: Sequence[str], option: str) -> list[str]:
    """What an option is given, in both ways in which it can be."""
    after = [value for flag, value in pairwise(arguments) if flag == option]
    begin = f"{option}="
    return after + [each.removeprefix(begin) for each in arguments if each.startswith(begin)]


def _bare_sections(path: str, keys: Sequence[str]) -> Iterator[str]:
    """Parts of a configuration that hold arguments without the class that takes them."""
    try:
        content = load_bounded(Path(path).read_text(encoding="utf8"))
    except (OSError, ValueError, yaml.YAMLError):
        return  # the parser tells what is wrong with it
    for key in keys:
        section = content.get(key) if isinstance(content, dict) else None
        if isinstance(section, dict) and "class_path" not in section:
            yield key
