"""Twice the same product gives twice the same bits, and each protection behind that is needed."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor

from lightning_hessian.fit import FitLoss
from lightning_hessian.loss import training_step
from lightning_hessian.options import LossSetup
from lightning_hessian.sandbox import Sandbox, StateSnapshot, sandbox, saved_objects
from tests.helpers.fitting import trainer
from tests.helpers.hostile import HostileData, HostileModule

Removal = Callable[[pytest.MonkeyPatch], None]


class Products(pl.Callback):
    """Multiplies the same block by the Hessian, in two measurements of two times each."""

    def __init__(self, mode: Any) -> None:
        self.mode, self.found = mode, []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        fit_loss = FitLoss(LossSetup(num_samples=8, mode=self.mode), trainer, pl_module)
        fit_loss.remember_flags()
        for _ in range(2):
            with fit_loss.opened() as loss:
                vectors = torch.ones(loss.size, 2, dtype=loss.dtype)
                self.found += [loss.products.matmat(vectors) for _ in range(2)]


def products(mode: str = "train") -> list[Tensor]:
    pl.seed_everything(5, verbose=False)
    callback = Products(mode)
    trainer(callback, max_steps=1, num_sanity_val_steps=0).fit(HostileModule(), HostileData())
    return callback.found


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_products_of_a_hostile_module_are_repeated_bit_by_bit(mode: str) -> None:
    first, *others = products(mode)
    assert first.abs().max() > 0
    assert all(torch.equal(first, other) for other in others)


def removed(owner: Any, name: str, put: Any = lambda *_, **__: None) -> Removal:
    return lambda patch: patch.setattr(owner, name, put)


REMOVALS = {
    "deep copy of the batch": removed(
        training_step, "copy", SimpleNamespace(deepcopy=lambda batch: batch)
    ),
    "reset before each evaluation": removed(Sandbox, "reset", Sandbox.reseed),
    "tensors in the reset": removed(StateSnapshot, "restore_tensors"),
    "containers in the reset": removed(saved_objects.SavedContainer, "put_back"),
    "reseeding of the global generators": removed(sandbox, "seed_global_generators"),
}


@pytest.mark.parametrize("name", REMOVALS)
def test_without_protection_the_products_change(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    REMOVALS[name](monkeypatch)
    try:
        first, *others = products()
    except RuntimeError:  # of a step that runs into what it left behind
        return
    assert not all(torch.equal(first, other) for other in others)


def test_owned_generators_are_seeded_so_that_history_does_not_matter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def with_history(draws: int) -> Tensor:
        pl.seed_everything(5, verbose=False)
        module, callback = HostileModule(), Products("eval")
        module.numpy_generator.normal(size=draws)
        trainer(callback, max_steps=1, num_sanity_val_steps=0).fit(module, HostileData())
        return callback.found[0]

    assert torch.equal(with_history(0), with_history(3))
    monkeypatch.setattr(StateSnapshot, "reseed", lambda *_: None)
    assert not torch.equal(with_history(0), with_history(3))


def test_gradient_hooks_would_change_the_products(monkeypatch: pytest.MonkeyPatch) -> None:
    guarded = products("eval")[0]
    monkeypatch.setattr(sandbox, "_set_gradient_hooks_aside", lambda *_: None)
    monkeypatch.setattr(Sandbox, "reset", lambda self, i: (self._state.restore(), self.reseed(i)))
    assert not torch.equal(guarded, products("eval")[0])
