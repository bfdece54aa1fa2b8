"""The energy of minima, against ``(1 - phi)^2 / 2``.

Pennington and Bahri (2017) find it in their experiments, approximately, for their network.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import Any

import torch

from examples.index_problem import Task
from lightning_hessian.studies import find_critical_point


@dataclass(frozen=True, slots=True, kw_only=True)
class Minimisers:
    """Of some tasks, one search each.

    Attributes:
        ratio: ``phi``.
        decay: The weight decay.
        energies: ``epsilon`` where each search ended.
        gradient_norms: There.
        outcomes: How it ended. Without decay there may be no minimum at finite weights.
    """

    ratio: float
    decay: float
    energies: tuple[float, ...]
    gradient_norms: tuple[float, ...]
    outcomes: tuple[str, ...]

    @property
    def law(self) -> float:
        """``(1 - phi)^2 / 2``."""
        return minimiser_energy(self.ratio)

    @property
    def mean(self) -> float:
        """Over tasks."""
        return statistics.fmean(self.energies)

    @property
    def standard_error(self) -> float:
        """Of the mean; ``nan`` of a single one."""
        count = len(self.energies)
        return statistics.stdev(self.energies) / math.sqrt(count) if count > 1 else math.nan

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        named = {"ratio": self.ratio, "weight_decay": self.decay, "law": self.law}
        return named | {k: getattr(self, k) for k in ("energies", "gradient_norms", "outcomes")}


def minimiser_energy(ratio: float) -> float:
    """``(1 - phi)^2 / 2``, from ``phi = 1`` on zero."""
    return max(1 - ratio, 0.0) ** 2 / 2


def minimisers(size: int, samples: int, *, decay: float, tasks: int, max_hvps: int) -> Minimisers:
    """Search for a minimum of each of some tasks, from random weights."""
    energies, norms, outcomes = [], [], []
    for seed in range(tasks):
        task = Task.drawn(size, samples, seed)
        generator = torch.Generator().manual_seed(seed)
        start = torch.randn(task.num_parameters, generator=generator, dtype=torch.float64) / 2
        with task.opened(start) as loss:
            found = find_critical_point(
                loss, target="minimum", weight_decay=decay, max_hvps=max_hvps
            )
        energies.append(float(task.energy(found.weights)))
        norms.append(found.report.course[-1].gradient_norm)
        outcomes.append(found.report.outcome)
    return Minimisers(
        ratio=2 * size / samples,
        decay=decay,
        energies=tuple(energies),
        gradient_norms=tuple(norms),
        outcomes=tuple(outcomes),
    )
