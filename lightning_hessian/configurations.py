"""What a configuration may say: YAML of bounded size, and which code it names."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from jsonargparse import Namespace, get_loader, set_loader

MODE = "yaml_of_bounded_size"
MAX_ENTRIES = 100_000
MAX_DEPTH = 100


def register_mode() -> str:
    """Make known to jsonargparse the mode that reads YAML by :func:`load_bounded`.

    Returns:
        Its name, to be given as ``parser_mode``.
    """
    set_loader(MODE, load_bounded, (yaml.YAMLError,))
    return MODE


def load_bounded(text: str) -> Any:
    """Read YAML as jsonargparse does, unless it comes to too much.

    A few lines with aliases of aliases stand for billions of entries, which the parser would walk
    through one by one; deep brackets end the process.

    Args:
        text: Of a file, or of an argument.

    Returns:
        What it says.

    Raises:
        YAMLError: If it is no YAML, or has too many entries or levels.
    """
    check_size(text)
    return get_loader("yaml")(text)


def check_size(text: str) -> None:
    """Count entries, with all aliases written out, and levels, from the events of the parser.

    Args:
        text: YAML.

    Raises:
        YAMLError: If it is no YAML, or has too many of them.
    """
    sizes: dict[str, float] = {}
    levels: list[tuple[str | None, float]] = [(None, 0)]
    for event in yaml.parse(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        if isinstance(event, yaml.CollectionStartEvent):
            if event.anchor is not None:
                sizes[event.anchor] = math.inf  # until it ends: inside itself it has no end
            levels.append((event.anchor, 1))
            if len(levels) > MAX_DEPTH:
                raise yaml.YAMLError(f"it has more than {MAX_DEPTH} levels. Nest less.")
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, size = levels.pop()
        elif isinstance(event, yaml.ScalarEvent):
            anchor, size = event.anchor, 1
        elif isinstance(event, yaml.AliasEvent):
            # what no anchor names is told by the loader
            anchor, size = None, sizes.get(event.anchor, 1)
        else:
            continue
        if anchor is not None:
            sizes[anchor] = size
        levels[-1] = (levels[-1][0], levels[-1][1] + size)
        if levels[-1][1] > MAX_ENTRIES:
            raise yaml.YAMLError(
                f"it has more than {MAX_ENTRIES:,} entries with all its aliases written out. "
                "Write out what is meant."
            )


def named_code(config: Any) -> Iterator[str]:
    """The classes and functions that a part of a parsed configuration names.

    Args:
        config: Any part.

    Yields:
        Paths that can be imported.
    """
    if isinstance(config, Namespace):
        config = vars(config)
    if isinstance(config, Mapping):
        if isinstance(config.get("class_path"), str):
            yield config["class_path"]
        config = list(config.values())
    if isinstance(config, list | tuple | set):
        for part in config:
            yield from named_code(part)
    elif callable(config):
        yield f"{config.__module__}.{getattr(config, '__qualname__', type(config).__qualname__)}"
