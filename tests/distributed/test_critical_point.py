"""Two processes measure the point and the edge that one measures."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from lightning_hessian import CriticalPoint, HessianSpectrum, Krylov, Loss
from tests.helpers.fitting import Classifier, loader, trainer
from tests.helpers.processes import ddp_trainer, in_processes

SOLVER = Krylov(max_hvps=12)


class ByAdam(Classifier):
    """Steps that adapt."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.01, weight_decay=0.1)


def callbacks() -> list[Any]:
    common: dict[str, Any] = {
        "max_overhead": None,
        "every_n_epochs": None,
        "solver": SOLVER,
        "loss": Loss(precision=64),
        "on_error": "raise",
    }
    return [
        CriticalPoint(weight_decay="optimizer", **common),
        HessianSpectrum(edge=True, trace=False, density=False, **common),
    ]


def measured(trained: Any, module: nn.Module) -> list[float]:
    """Of the start the point, and of the end the edge."""
    point, edge = callbacks()
    trained(point, edge, max_steps=1).fit(copy.deepcopy(module), loader())
    first, last = point.reports[0], edge.reports[-1].edge
    escape = first.escape
    assert escape is not None
    left = [near.gradient_left for near in first.nearness]
    falls = [near.decrease for near in first.nearness]
    line = [*escape.losses.tolist(), escape.third, escape.fourth, escape.predicted_decrease]
    return [first.loss, *left, *falls, *line, last.sharpness, last.bound, last.threshold]


def test_two_processes_give_the_numbers_of_one() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        module = ByAdam()
    first, second = in_processes(lambda _: measured(ddp_trainer, module))
    assert first == second
    alone = measured(trainer, module)
    # sums of float64 in another order; the step that adapts the moments is of float32
    assert first[:-3] == pytest.approx(alone[:-3], rel=1e-7, abs=1e-10)
    assert first[-3] > 0
