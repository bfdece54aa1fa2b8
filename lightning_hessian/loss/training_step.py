"""The user's own ``training_step``, called on a frozen batch as the training loop would."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.signature_utils import is_param_in_hook_signature
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_pre_hook

from lightning_hessian.data import cast_floats
from lightning_hessian.errors import RefusedError


class TrainingStep:
    """Calls the module's ``training_step``, or another method of it, on one batch.

    The batch goes through the same stations as in training: the precision plugin's conversion, the
    module's or datamodule's transfer hooks, the device. A step that takes a ``dataloader_iter``
    gets an iterator over this one batch, which as in training went through none of them. The loss
    is taken from a tensor or from a dictionary's ``loss``; None means a skipped batch.

    Args:
        module: Attached to ``trainer``.
        trainer: Running a fit.
        dtype: Floating-point tensors of a batch are converted to it.
        method: Name of a method ``(batch, batch_idx)`` or ``(batch)`` to call instead.
        are_transferred: Whether the batches went through conversion and hooks already, and only
            have to be moved.

    Attributes:
        name: Of the method, or None for ``training_step``.
    """

    def __init__(
        self,
        module: LightningModule,
        trainer: Trainer,
        dtype: torch.dtype,
        *,
        method: str | None = None,
        are_transferred: bool = False,
    ) -> None:
        self.name = method
        self._are_transferred = are_transferred
        self._module = module
        self._trainer = trainer
        self._dtype = dtype
        self._step = _method(module, method) if method else _uncompiled_training_step(module)
        self._takes_index = is_param_in_hook_signature(self._step, "batch_idx", min_args=2)
        self._takes_iterator = method is None and is_param_in_hook_signature(
            self._step, "dataloader_iter", explicit=True
        )

    def __call__(self, batch: Any, index: int) -> Tensor | None:
        """Loss of one batch with its graph, or None where training would skip the batch."""
        output = self.run(batch, index)
        name = f"`{self.name or 'training_step'}`"
        if isinstance(output, Mapping):
            if "loss" not in output:
                raise RefusedError(
                    f"a dictionary returned by {name} must hold 'loss', got the keys "
                    f"{sorted(map(str, output))}."
                )
            output = output["loss"]
        if output is None or isinstance(output, Tensor):
            return output
        raise RefusedError(
            f"{name} must return a tensor, a dictionary with 'loss', or None, got "
            f"{type(output).__name__}."
        )

    def run(self, batch: Any, index: int) -> Any:
        """Call the step on a copy of the batch, as collated; gives what the step returns."""
        own = copy.deepcopy(batch)
        with _no_optimizer_steps():
            if self._takes_iterator:
                return self._step(_OneBatch(cast_floats(own, self._dtype), index))
            own = cast_floats(self._transfer(own), self._dtype)
            return self._step(own, index) if self._takes_index else self._step(own)

    def _transfer(self, batch: Any) -> Any:
        trainer = self._trainer
        if self._are_transferred:
            return move_data_to_device(batch, trainer.strategy.root_device)
        # the loop's own three stations, without its profiler and its bookkeeping
        batch = trainer.precision_plugin.convert_input(batch)
        batch = self._module._on_before_batch_transfer(batch, dataloader_idx=0)
        return trainer.strategy.batch_to_device(batch, dataloader_idx=0)


class _OneBatch:
    """What a step with a ``dataloader_iter`` draws from: a single batch, as the loop wraps it."""

    def __init__(self, batch: Any, index: int) -> None:
        self._items = [(batch, index, 0)]

    def __iter__(self) -> _OneBatch:
        return self

    def __next__(self) -> tuple[Any, int, int]:
        if not self._items:
            raise RefusedError(
                "`training_step` draws more than one batch from its `dataloader_iter`, but is "
                "measured on one batch at a time. Define `hessian_loss(self, batch, batch_idx)`, "
                "returning the loss to measure."
            )
        return self._items.pop()


def _method(module: LightningModule, name: str) -> Callable[..., Any]:
    method = getattr(module, name, None)
    if not callable(method):
        found = "which it does not have" if method is None else f"a {type(method).__name__}"
        raise RefusedError(
            f"`loss` must name a method `(batch, batch_idx)` of {type(module).__name__}, got "
            f"{name!r}, {found}. Define it to return the loss to measure."
        )
    return method  # type: ignore[no-any-return]


def _uncompiled_training_step(module: LightningModule) -> Callable[..., Any]:
    """``torch.compile(module)`` replaces the method; Lightning keeps the original."""
    context: Mapping[str, Any] | None = getattr(module, "_compiler_ctx", None)
    step: Callable[..., Any] = (
        context["original_training_step"] if context else module.training_step
    )
    return step


@contextmanager
def _no_optimizer_steps() -> Iterator[None]:
    handle = register_optimizer_step_pre_hook(_refuse_optimizer_step)
    try:
        yield
    finally:
        handle.remove()


def _refuse_optimizer_step(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """A step of an optimiser that the module keeps to itself, whose state nobody puts back."""
    raise RefusedError(
        f"the loss is computed by a step that moves an optimiser of its own "
        f"({type(optimizer).__name__}), which a measurement must not do. Define "
        "`hessian_loss(self, batch, batch_idx)` without it."
    )
