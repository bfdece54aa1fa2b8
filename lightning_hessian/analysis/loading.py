"""A checkpoint's state put into a running Trainer, module and datamodule, as a resume would."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from lightning_hessian.errors import UnreadableCheckpointError
from lightning_hessian.fit import (
    BESIDE,
    choose_weights,
    has_running_statistics,
    named_as,
    note_on_file,
)
from lightning_hessian.records import Mode, Note, Weights

OF_THE_RUN = frozenset(
    {"callbacks", "optimizer_states", "lr_schedulers", "loops", "averaging_state",
     "current_model_state", "pytorch-lightning_version", "legacy_pytorch-lightning_version"}
)  # fmt: skip
"""Entries of a checkpoint that the loss does not depend on, beyond epoch and step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What was loaded.

    Attributes:
        digest: Equal for two checkpoints exactly if all is equal that the loss may depend on.
        notes: What to beware of, in sentences.
        of_file: The same of this file only, whatever has equal weights.
    """

    digest: str
    notes: tuple[Note, ...]
    of_file: tuple[Note, ...] = ()


def load_checkpoint(
    checkpoint: dict[str, Any],
    trainer: Trainer,
    module: LightningModule,
    *,
    weights: Weights,
    mode: Mode,
) -> Loaded:
    """Bring Trainer, module and datamodule to where the checkpoint was saved.

    Weights, what the ``on_load_checkpoint`` of the module and the ``load_state_dict`` of the
    datamodule make of the file, the epoch and the step; then the hooks that begin a training and
    an epoch, by which modules set what depends on the epoch.

    Args:
        checkpoint: As read; changed.
        trainer: Running a fit.
        module: Attached to it.
        weights: Which.
        mode: In which the loss is to be measured.

    Returns:
        What was loaded.

    Raises:
        UnreadableCheckpointError: If the checkpoint lacks what is wanted, or is of another module.
    """
    names = [name for name, _ in module.named_parameters(remove_duplicate=False)]
    own = module.state_dict().keys()
    held: Weights = "averaged" if BESIDE in checkpoint else "current"
    for key in ("state_dict", BESIDE):
        if key in checkpoint:
            checkpoint[key] = named_as(checkpoint[key], own)
    chosen = choose_weights(checkpoint, weights, names)
    if chosen.has_foreign_buffers and mode == "eval" and has_running_statistics(module):
        raise UnreadableCheckpointError(
            "it holds running statistics of the current weights only, with which the averaged "
            'ones have another loss in eval mode. Measure them with `mode="train"`'
        )
    checkpoint["state_dict"] = chosen.state
    digest = _digest({key: checkpoint[key] for key in checkpoint.keys() - OF_THE_RUN})
    set_progress(trainer, checkpoint)
    module.on_load_checkpoint(checkpoint)
    num_held = len(checkpoint["state_dict"].keys() & own)
    if own and not num_held:
        raise UnreadableCheckpointError(f"none of its weights is one of {type(module).__name__}")
    try:
        trainer.strategy.load_model_state_dict(checkpoint, strict=module.strict_loading)
    except RuntimeError as error:
        raise UnreadableCheckpointError(
            f"its weights are not those of this {type(module).__name__} "
            f"({' '.join(str(error).split())[:600]})"
        ) from error
    data = trainer.datamodule  # type: ignore[attr-defined]
    if data is not None and type(data).__qualname__ in checkpoint:
        data.load_state_dict(checkpoint[type(data).__qualname__])
    module.on_train_start()
    module.on_train_epoch_start()
    partial = (
        f"The checkpoint holds {num_held} of the {len(own)} entries of the module's state; the "
        "others are as they were given."
    )
    notes = (Note("partial-checkpoint", partial),) if num_held < len(own) else ()
    return Loaded(digest=digest, notes=notes, of_file=note_on_file(weights, held))


def set_progress(trainer: Trainer, checkpoint: Mapping[str, Any]) -> None:
    """Make the Trainer say the epoch and the step of a checkpoint.

    Args:
        trainer: Running a fit.
        checkpoint: With the state of its loops, or only with both numbers.
    """
    loop = trainer.fit_loop
    if "loops" in checkpoint:
        loop.load_state_dict(copy.deepcopy(checkpoint["loops"]["fit_loop"]))
        return
    loop.epoch_progress.current.completed = checkpoint["epoch"]
    steps = loop.epoch_loop
    optimizer = steps.automatic_optimization.optim_progress.optimizer
    optimizer.step.total.completed = checkpoint["global_step"]
    steps.manual_optimization.optim_step_progress.total.completed = checkpoint["global_step"]


def _digest(value: Any) -> str:
    digest = hashlib.blake2b(digest_size=16)
    _feed(digest, value)
    return digest.hexdigest()


def _feed(digest: Any, value: Any) -> None:
    """Feed containers item by item and tensors by their bits."""
    if isinstance(value, Mapping):
        for key in sorted(value, key=repr):
            digest.update(repr(key).encode())
            _feed(digest, value[key])
    elif isinstance(value, list | tuple):
        digest.update(f"{type(value).__name__} of {len(value)}".encode())
        for item in value:
            _feed(digest, item)
    elif isinstance(value, Tensor) and value.layout == torch.strided:
        digest.update(f"{value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    else:
        digest.update(repr(value).encode())
