"""What a loader draws from, read without drawing a single batch from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from lightning.fabric.utilities.data import sized_len
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from lightning_hessian.data.drawing import Drawing
from lightning_hessian.data.plan import TrainingData
from lightning_hessian.errors import RefusedError


def is_indexable(loader: object) -> bool:
    """Whether a loader's batches are samples of a data set with a length and an index.

    Not so where the data set yields batches, and for a subclass with an iteration of its own, which
    may do anything to a batch.
    """
    return (
        isinstance(loader, DataLoader)
        and type(loader).__iter__ is DataLoader.__iter__
        and type(loader)._get_iterator is DataLoader._get_iterator
        and not isinstance(loader.dataset, IterableDataset)
        and hasattr(loader.dataset, "__len__")
        and Drawing.of(loader).batches is not None
    )


def must_be_drawn(loader: DataLoader[Any]) -> bool:
    """Whether it takes an epoch of an indexable loader's samplers to know what they draw."""
    drawing = Drawing.of(loader)
    return drawing.preference is not None and drawing.weights is None


def training_data(
    loader: DataLoader[Any],
    *,
    name: str,
    batch_size: int | None = None,
    max_batches: float = math.inf,
    as_drawn: bool = False,
) -> TrainingData:
    """Find the data set, the positions, the batch size and the collation of a loader.

    The loader itself is never iterated: that would reset persistent workers in the middle of an
    epoch, and draw from its generator. The ``indices`` of a subset sampler are respected; under a
    sequential sampler only the samples count that ``max_batches`` reach. Any other sampler is
    taken to draw from the whole data set, where each sample counts alike; the description says so.
    A sampler that Lightning has distributed over processes counts as the one of a single process.

    With ``as_drawn`` samples count as often as such a sampler draws them: by its weights, or where
    it has none by an epoch of it, for which it is iterated. That is to be called in a sandbox.
    """
    drawing = Drawing.of(loader)
    length = sized_len(loader)
    num_batches = drawing.num_processes * min(math.inf if length is None else length, max_batches)
    if as_drawn and drawing.preference is not None:
        draws = _Draws.by(drawing, num_batches)
    else:
        draws = _Draws.alike(drawing, num_batches, len(loader.dataset))  # type: ignore[arg-type]
    size = batch_size or drawing.step_size
    if size is None and draws.groups is not None:
        size = max(map(len, draws.groups), default=1)
    if size is None:
        raise RefusedError(
            f"the batch size of the training loader is unknown: its "
            f"{type(drawing.batches).__name__} has no integer `batch_size`. Give "
            "`batch_size=`."
        )
    natural = math.ceil(len(draws.positions) / size)
    return TrainingData(
        dataset=loader.dataset,
        indices=draws.positions,
        batch_size=size,
        collate=loader.collate_fn,
        description=f"{name} ({type(loader.dataset).__name__}{_manner(drawing, as_drawn)})",
        is_ordered=drawing.is_ordered,
        takes_lists=drawing.takes_lists,
        num_batches=max(1, int(num_batches) if num_batches < math.inf else natural),
        is_redrawn=draws.is_redrawn,
        weights=draws.weights,
        groups=draws.groups,
    )


def _manner(drawing: Drawing, as_drawn: bool) -> str:
    """What to say of a sampler that may not take every position alike."""
    if drawing.preference is None:
        return ""
    if as_drawn:
        return f", as its {drawing.preference} draws"
    kind = drawing.preference
    return f", each alike, whatever its {kind} prefers; `sampling='as_drawn'` follows it"


@dataclass(frozen=True, slots=True, eq=False)
class _Draws:
    """Positions, as in the attributes of :class:`TrainingData`."""

    positions: Sequence[int]
    is_redrawn: bool = False
    weights: Tensor | None = None
    groups: tuple[tuple[int, ...], ...] | None = None

    @classmethod
    def alike(cls, drawing: Drawing, num_batches: float, count: int) -> _Draws:
        """Those that training reaches."""
        if drawing.subset is not None:
            return cls(drawing.subset)
        if not drawing.is_ordered or drawing.step_size is None:
            return cls(range(count))
        return cls(range(int(min(num_batches * drawing.step_size, drawing.reach, count))))

    @classmethod
    def by(cls, drawing: Drawing, num_batches: float) -> _Draws:
        """By the weights of a sampler, or where it has none by an epoch of it."""
        weights = drawing.weights
        if weights is None:
            groups = _drawn_epoch(drawing, num_batches)
            return cls(
                list(chain(*groups)),
                is_redrawn=True,
                groups=groups if drawing.has_own_batches else None,
            )
        positions = weights.nonzero().flatten()
        weights = weights[positions]
        if len(weights.unique()) == 1:
            return cls(positions.tolist())
        return cls(positions.tolist(), is_redrawn=True, weights=weights)


def _drawn_epoch(drawing: Drawing, num_batches: float) -> tuple[tuple[int, ...], ...]:
    if math.isinf(num_batches):
        raise RefusedError(
            f"`sampling='as_drawn'` needs to know how long an epoch is, but the "
            f"{drawing.preference} has no length. Give it a `__len__`, set `limit_train_batches`, "
            "or leave the option out."
        )
    batches = islice(iter(drawing.batches), int(num_batches))
    return tuple(tuple(int(index) for index in batch) for batch in batches)
