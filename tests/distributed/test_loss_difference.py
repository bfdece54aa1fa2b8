"""Two processes measure the loss differences that one measures."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from tests.helpers.difference import difference
from tests.helpers.fitting import classification_data, loader, trainer
from tests.helpers.hard_modules import seeded
from tests.helpers.processes import ddp_trainer, in_processes

OWN = ("seconds", "epoch", "global_step")
EVERYTHING: dict[str, Any] = {
    "derivatives": True,
    "sigmas": (0.1,),
    "num_perturbations": 4,
    "subspace": 2,
    "hessian_differences": 1,
    "surface": "random",
    "surface_points": 3,
    "keep_losses": True,
    "max_hvps": 16,
}


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3))


def numbers(report: Any) -> dict[str, str]:
    return {k: repr(v) for k, v in report.to_dict().items() if k not in OWN}


@pytest.mark.parametrize("batch_size", [8, 7, 26])
def test_two_processes_give_the_same_bits_as_one(batch_size: int) -> None:
    # losses and derivatives in float32 are summed in float64: no order of them rounds otherwise
    module = seeded(network)
    options = {**EVERYTHING, "every_n_epochs": None, "held_out": loader(classification_data(9))}

    def part(rank: int) -> list[dict[str, str]]:
        callback, own = difference(**options), copy.deepcopy(module)
        ddp_trainer(callback, max_steps=1).fit(own, loader(batch_size=batch_size))
        return [numbers(report) for report in callback.reports]

    first, second = in_processes(part)
    assert first == second
    alone = difference(**options)
    trainer(alone, max_steps=1).fit(copy.deepcopy(module), loader(batch_size=batch_size))
    assert first[0] == numbers(alone.reports[0])
    assert alone.reports[0].sample_losses.dtype == torch.float64
