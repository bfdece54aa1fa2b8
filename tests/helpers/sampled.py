"""The losses of single samples as a fit finds them, and as a plain loop does."""

from __future__ import annotations

import copy
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from lightning_hessian.callbacks.fit_objective import FitObjective
from lightning_hessian.callbacks.options import ObjectiveOptions
from lightning_hessian.objective import sample_losses
from tests.helpers.fitting import loader, trainer


class Question(pl.Callback):
    """Asks something of the training loss at the start of a fit."""

    def __init__(self, ask: Any = sample_losses, **options: Any) -> None:
        defaults: dict[str, Any] = {
            "num_samples": "all",
            "batch_size": None,
            "mode": "eval",
            "precision": None,
            "parameters": None,
            "seed": 0,
            "products": "none",
        }
        self._options = ObjectiveOptions(**(defaults | options))
        self._ask = ask

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        objective = FitObjective(self._options, trainer, pl_module)
        with objective.opened() as loss:
            self.answer = self._ask(loss)
            self.batches = loss.batches.batches


def asked(module: pl.LightningModule, data: Any, ask: Any = sample_losses, **options: Any) -> Any:
    """What a question finds out; ``data`` is a data set or a loader, the module stays as it is."""
    return _asked(module, data, ask, options).answer


def in_order_drawn(module: pl.LightningModule, data: Any, **options: Any) -> tuple[Any, Any]:
    """The answer to ``sample_losses``, and the frozen batches that it is of."""
    question = _asked(module, data, sample_losses, options)
    return question.answer, question.batches


def _asked(module: Any, data: Any, ask: Any, options: dict[str, Any]) -> Question:
    question = Question(ask, **options)
    loaded = data if hasattr(data, "collate_fn") else loader(data, batch_size=8)
    # the fit takes a step
    trainer(question, max_steps=1).fit(copy.deepcopy(module), loaded)
    return question


def looped(module: pl.LightningModule, batches: Any, cut: Any, dtype: torch.dtype) -> Tensor:
    """The step on each sample of some batches alone, in eval mode; ``cut(batch, i)`` gives it."""
    own = copy.deepcopy(module).to(dtype).eval()
    own.log = lambda *_, **__: None  # type: ignore[method-assign,assignment]
    losses = []
    for batch in batches:
        for row in range(batch.num_samples):
            output = own.training_step(cut(batch.data, row), batch.index)
            value = output["loss"] if isinstance(output, dict) else output
            losses.append(value.detach().double())
    return torch.stack(losses)
