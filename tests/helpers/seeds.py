"""How many seeds families of random cases have: all by hand, a part of them in CI."""

from __future__ import annotations

import os

SEEDS = int(os.environ.get("HESSIAN_SEEDS", "200"))


def part_of(count: int) -> int:
    """As many of ``count`` as ``HESSIAN_SEEDS`` is of 200, and at least one."""
    return max(1, count * SEEDS // 200)
