"""Two processes measure the loss differences that one measures."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_hessian import Krylov, Perturbations, Surface
from lightning_hessian.errors import RefusedError
from tests.helpers.difference import difference
from tests.helpers.fitting import Classifier, classification_data, loader, trainer
from tests.helpers.hard_modules import seeded
from tests.helpers.processes import ddp_trainer, in_processes

OWN = ("seconds", "overhead", "epoch", "global_step")
VERIFIED = ("cost",)  # each process verifies by a handful of samples of its own
EVERYTHING: dict[str, Any] = {
    "derivatives": True,
    "perturbations": Perturbations(sigmas=(0.1,), count=4, subspace=2),
    "hessian_differences": 1,
    "surface": Surface(directions="random", points=3),
    "keep_losses": True,
    "solver": Krylov(max_hvps=16),
}


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3))


def numbers(report: Any) -> dict[str, str]:
    return {k: repr(v) for k, v in report.to_dict().items() if k not in OWN + VERIFIED}


# a last batch of two; one process has a single sample; one has a repeat of the other's batch
@pytest.mark.sampled
@pytest.mark.parametrize("batch_size", [8, 25, 26])
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


class ByProcess(Classifier):
    """A loss that is a sum over samples on one process, and a mean on the other."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        reduction = "sum" if self.trainer.global_rank else "mean"
        return F.cross_entropy(self.network(batch[0]), batch[1], reduction=reduction)


class Spread(Classifier):
    """Has a statistic of the batch in its loss, on one process only."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        out = self.network(batch[0])
        return F.cross_entropy(out, batch[1]) + self.trainer.global_rank * out.var(dim=0).sum()


def test_both_processes_refuse_what_is_not_made_of_samples_on_one() -> None:
    def part(rank: int) -> list[str]:
        texts = []
        for kind in (ByProcess, Spread):
            with pytest.raises(RefusedError) as caught:
                ddp_trainer(difference(), max_steps=1).fit(kind(), loader())
            texts.append(str(caught.value))
        return texts

    first, second = in_processes(part)
    assert first == second
    assert first[0].startswith(
        "the loss of a batch is the mean of its samples' losses on some processes, and their sum on"
    )
    assert first[1].startswith("the loss of a batch is not made of the losses of its samples")
