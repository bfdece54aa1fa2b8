"""The user's own ``training_step``, called on a frozen batch as the training loop would."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.signature_utils import is_param_in_hook_signature
from torch import Tensor

from lightning_hessian.errors import RefusedError
from lightning_hessian.objective.casting import cast_floats


class TrainingStep:
    """Calls the module's ``training_step``, or its ``hessian_loss`` where it defines one.

    The batch goes through the same stations as in training: the precision plugin's conversion, the
    module's or datamodule's transfer hooks, the device. The loss is taken from a tensor or from a
    dictionary's ``loss``; None means a skipped batch. ``hessian_loss(batch, batch_idx)`` returns
    the same and is how a module with manual optimisation says which loss it means.

    Args:
        module: Attached to ``trainer``.
        trainer: Running a fit.
        dtype: Floating-point tensors of a batch are converted to it.
        are_transferred: Whether the batches went through conversion and hooks already, and only
            have to be moved.

    Raises:
        RefusedError: If the module optimises manually and defines no ``hessian_loss``, or takes a
            ``dataloader_iter``.
    """

    def __init__(
        self,
        module: LightningModule,
        trainer: Trainer,
        dtype: torch.dtype,
        *,
        are_transferred: bool = False,
    ) -> None:
        self._module = module
        self._trainer = trainer
        self._dtype = dtype
        self._are_transferred = are_transferred
        own: Callable[..., Any] | None = getattr(module, "hessian_loss", None)
        name = type(module).__name__
        if own is None and not module.automatic_optimization:
            raise RefusedError(
                f"{name} has `automatic_optimization=False`: its `training_step` steps optimisers "
                "and no single loss is known. Define `hessian_loss(self, batch, batch_idx)` on it, "
                "returning the loss to measure."
            )
        self._step = own or _uncompiled_training_step(module)
        if own is None and is_param_in_hook_signature(self._step, "dataloader_iter", explicit=True):
            raise RefusedError(
                f"{name}.training_step takes a `dataloader_iter` and draws its batches itself. "
                "Define `hessian_loss(self, batch, batch_idx)` on it, returning the loss to "
                "measure."
            )
        self._takes_index = is_param_in_hook_signature(self._step, "batch_idx", min_args=2)

    def __call__(self, batch: Any, index: int) -> Tensor | None:
        """Loss of one batch.

        Args:
            batch: As collated; left unchanged.
            index: Passed as ``batch_idx``.

        Returns:
            The loss with its graph, or None where training would skip the batch.

        Raises:
            RefusedError: If the step returns something that holds no loss.
        """
        moved = self._transfer(copy.deepcopy(batch))
        output = self._step(moved, index) if self._takes_index else self._step(moved)
        if isinstance(output, Mapping):
            if "loss" not in output:
                raise RefusedError(
                    "a dictionary returned by `training_step` must hold 'loss', got the keys "
                    f"{sorted(map(str, output))}."
                )
            output = output["loss"]
        if output is None or isinstance(output, Tensor):
            return output
        raise RefusedError(
            "`training_step` must return a tensor, a dictionary with 'loss', or None, got "
            f"{type(output).__name__}."
        )

    def _transfer(self, batch: Any) -> Any:
        trainer = self._trainer
        if self._are_transferred:
            batch = move_data_to_device(batch, trainer.strategy.root_device)
        else:
            # the loop's own three stations, without its profiler and its bookkeeping
            batch = trainer.precision_plugin.convert_input(batch)
            batch = self._module._on_before_batch_transfer(batch, dataloader_idx=0)
            batch = trainer.strategy.batch_to_device(batch, dataloader_idx=0)
        return cast_floats(batch, self._dtype)


def _uncompiled_training_step(module: LightningModule) -> Callable[..., Any]:
    """``torch.compile(module)`` replaces the method; Lightning keeps the original."""
    context: Mapping[str, Any] | None = getattr(module, "_compiler_ctx", None)
    step: Callable[..., Any] = (
        context["original_training_step"] if context else module.training_step
    )
    return step
