"""Frozen batches from a loader that the user gives, by an option or by a hook."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Literal

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.combined_loader import CombinedLoader
from torch.utils.data import DataLoader

from lightning_hessian.data.detached import detached_copy
from lightning_hessian.data.frozen import FrozenBatch, FrozenBatches
from lightning_hessian.data.loaders import Loaders
from lightning_hessian.data.weights import BatchWeights, WeightFunction
from lightning_hessian.errors import RefusedError

HOOK = "hessian_dataloader"
_END = object()


def hook_owner(trainer: Trainer, module: LightningModule) -> object | None:
    """Who defines the hook; a data module comes first, as with Lightning's own."""
    datamodule = trainer.datamodule  # type: ignore[attr-defined]
    return next((owner for owner in (datamodule, module) if hasattr(owner, HOOK)), None)


def validation_source(trainer: Trainer) -> Callable[[], Any]:
    """Where a fit gets its validation set from: a hook, or what ``fit`` was given; the first."""
    source = trainer.fit_loop.epoch_loop.val_loop._data_source
    if source.instance is None or not source.is_defined():
        raise RefusedError(
            "`held_out=True` needs a validation set, but this fit has none. Give `fit` or the data "
            "module one, or give a loader: `held_out=DataLoader(...)`."
        )

    def make() -> Any:
        loaders = source.dataloader()
        return loaders[0] if isinstance(loaders, list | tuple) and loaders else loaders

    return make


def take_batches(
    loaders: Loaders,
    *,
    num_samples: int | Literal["all"],
    weight_fn: WeightFunction | None,
    share: tuple[int, int] = (0, 1),
) -> FrozenBatches:
    """Take the first batches that the loaders give, until there are enough samples.

    Meant for a sandbox just reset, so that the same batches come each time. A ``DataLoader`` is
    iterated through a copy of its own: its persistent workers, if it has some, belong to whoever
    else uses it. A process for which no batch is left gets the last one, without weight.
    """
    source = f"{loaders.name} ({_kind(loaders)})"
    weights = BatchWeights(weight_fn, _declared_batch_size(loaders), source)
    batches: list[FrozenBatch] = []
    iterator = _iterate(loaders, source)
    batch = next(iterator, _END)
    while batch is not _END and (num_samples == "all" or weights.num_samples < num_samples):
        own = detached_copy(batch)
        batch = next(iterator, _END)
        batches.append(weights.freeze(own, len(batches), ends_epoch=batch is _END))
    if not batches:
        raise RefusedError(
            f"{source} is empty, so there is no loss to measure. It must give at least one batch."
        )
    extent = "all" if batch is _END else "the first"
    rank, num_processes = share
    mine = batches[rank::num_processes] or [replace(batches[-1], weight=0)]
    return FrozenBatches(
        tuple(mine),
        sum(batch.num_samples for batch in mine if not batch.is_repeat),
        f"{extent} {len(batches):,} batches ({weights.num_samples:,} samples) of {source}, "
        f"{weights.origin}",
    )


def _iterate(loaders: Loaders, source: str) -> Iterator[Any]:
    own = [_own_copy(leaf) for leaf in loaders.leaves]
    if loaders.structure is not loaders.leaves[0]:
        combined = CombinedLoader(loaders.structure, loaders.mode)  # type: ignore[arg-type]
        combined.flattened = own
        return (batch for batch, _, _ in combined)
    loader = own[0]
    if isinstance(loader, dict) or not hasattr(type(loader), "__iter__"):
        raise RefusedError(
            f"{source} must be an iterable of batches, or a collection of `DataLoader`s. Give a "
            "`DataLoader`, or a list of batches."
        )
    iterator: Iterator[Any] = iter(loader)
    if iterator is loader or (not isinstance(loader, DataLoader) and iterator is iter(loader)):
        raise RefusedError(
            f"{source} must be an iterable that can be iterated again, but its iterator is always "
            "the same: its batches would be used up. Give the loader itself, or a list of batches."
        )
    return iterator


def _own_copy(loader: Any) -> Any:
    if not isinstance(loader, DataLoader):
        return loader
    own = copy.copy(loader)
    own._iterator = None
    return own


def _declared_batch_size(loaders: Loaders) -> int | None:
    size = getattr(loaders.leaves[0], "batch_size", None) if len(loaders.leaves) == 1 else None
    return size if isinstance(size, int) else None


def _kind(loaders: Loaders) -> str:
    kinds = [type(getattr(leaf, "dataset", leaf)).__name__ for leaf in loaders.leaves]
    return ", ".join(kinds)
