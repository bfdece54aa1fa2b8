"""What a running Trainer trains on, read without drawing a single batch from its loader."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from lightning.pytorch import Trainer
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, SequentialSampler

from lightning_hessian.batches import TrainingData
from lightning_hessian.errors import RefusedError


def training_data(trainer: Trainer, batch_size: int | None = None) -> TrainingData:
    """Find the data set, the positions, the batch size and the collation of the training loader.

    The loader itself is never iterated: that would reset persistent workers in the middle of an
    epoch, and draw from its generator. The ``indices`` of a subset sampler are respected; under a
    sequential sampler with ``limit_train_batches`` or ``overfit_batches`` only the samples
    that training reaches count. Any other sampler is taken to draw from the whole data set.

    Args:
        trainer: In a fit, with its training loader set up.
        batch_size: Samples per frozen batch; the training loader's when None.

    Returns:
        The training data.

    Raises:
        RefusedError: If the loader is not a single ``DataLoader`` over a map-style data set, or its
            batch size is unknown.
    """
    loader = trainer.train_dataloader
    if not isinstance(loader, DataLoader):
        raise RefusedError(
            "the training loader must be one `torch.utils.data.DataLoader`, got "
            f"{_describe(loader)}. Collections of loaders are not measured."
        )
    dataset: Any = loader.dataset
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
        raise RefusedError(
            f"the training set must have a length and an index, got {type(dataset).__name__}, "
            "which streams. A fixed sample cannot be drawn from it without advancing the training."
        )
    if loader.batch_sampler is None:
        raise RefusedError(
            "the training loader must batch single samples, got `DataLoader(batch_size=None)`, "
            "whose data set yields batches of unknown size. Let the loader do the batching."
        )
    step_size = getattr(loader.batch_sampler, "batch_size", None)
    size = batch_size or step_size
    if not isinstance(size, int):
        raise RefusedError(
            "the batch size of the training loader is unknown: its "
            f"{_describe(loader.batch_sampler)} has no integer `batch_size`. Give `batch_size=`."
        )
    positions: Sequence[int] = range(len(dataset))
    sampler = getattr(loader.batch_sampler, "sampler", None)
    subset = _subset(sampler)
    if subset is not None:
        positions = subset
    elif isinstance(sampler, SequentialSampler) and isinstance(step_size, int):
        positions = positions[: int(min(trainer.num_training_batches * step_size, len(dataset)))]
    return TrainingData(
        dataset=dataset,
        indices=positions,
        batch_size=size,
        collate=loader.collate_fn,
        description=f"the training set ({type(dataset).__name__})",
    )


def _subset(sampler: object) -> list[int] | None:
    """The positions that a sampler is restricted to, where it keeps them as data."""
    indices = getattr(sampler, "indices", None)
    if isinstance(indices, Sequence | Tensor | np.ndarray):
        return [int(index) for index in indices]
    return None


def _describe(thing: object) -> str:
    if isinstance(thing, list | tuple | dict):
        return f"a {type(thing).__name__} of {len(thing)}"
    return type(thing).__name__
