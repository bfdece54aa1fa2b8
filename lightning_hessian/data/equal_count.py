"""Equally many batches on every process."""

from __future__ import annotations

from dataclasses import replace

import torch

from lightning_hessian.data.frozen import FrozenBatches
from lightning_hessian.processes import Processes


def pad_to_equal_count(frozen: FrozenBatches, processes: Processes) -> FrozenBatches:
    """Let every process have equally many batches, by repeats of its last one without weight.

    A step may hold exchanges of its own (``all_gather``, synchronised statistics), in which the
    processes wait for each other: so all of them call it equally often.
    """
    if processes.size == 1:
        return frozen
    counts = torch.zeros(processes.size + 1, dtype=torch.float64, device=processes.device)
    counts[processes.rank] = len(frozen.batches)
    counts[-1] = frozen.num_samples
    *numbers, num_samples = (int(count) for count in processes.sum(counts))
    repeat = replace(frozen.batches[-1], weight=0)
    repeats = [repeat] * (max(numbers) - len(frozen.batches))
    return replace(frozen, batches=(*frozen.batches, *repeats), num_samples=num_samples)
