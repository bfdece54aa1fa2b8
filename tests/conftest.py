"""What holds for all tests: one thread, and of long families one case by default."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from lightning.fabric.utilities import registry

# networks in tests are tiny: a second thread costs more than it gives
torch.set_num_threads(1)
# for each Trainer, of which tests make thousands, the metadata of all packages would be read anew
registry.entry_points = cache(registry.entry_points)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of a function marked `sampled` the first case runs by default, the others are slow."""
    begun: set[str] = set()
    for item in items:
        name = item.nodeid.partition("[")[0]
        if item.get_closest_marker("sampled") and name in begun:
            item.add_marker(pytest.mark.slow)
        begun.add(name)
