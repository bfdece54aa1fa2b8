"""How much a structure comes to when what it shares is counted wherever it stands."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any


def expanded_size(root: Any, children: Callable[[Any], Iterable[Any] | None]) -> float:
    """Count nodes as whoever walks through all of them meets them.

    Ten lists that hold the one below ten times each are ten nodes to keep and ten billion to walk
    through. Each node is looked at once.

    Args:
        root: The structure.
        children: Of a node, which it keeps alive; None for a leaf.

    Returns:
        The number; infinity where a node holds itself.
    """
    sizes: dict[int, float] = {}

    def size(node: Any) -> float:
        inner = children(node)
        if inner is None:
            return 1
        if id(node) not in sizes:
            sizes[id(node)] = math.inf  # until it is known: whoever meets it inside itself
            sizes[id(node)] = 1 + sum(size(each) for each in inner)
        return sizes[id(node)]

    return size(root)


def items_of(value: Any) -> Iterable[Any] | None:
    """What a container holds, keys too.

    Args:
        value: Any.

    Returns:
        None for what is no mapping, list, tuple or set.
    """
    if isinstance(value, Mapping):
        return [part for pair in value.items() for part in pair]
    return value if isinstance(value, list | tuple | set | frozenset) else None
