"""In which batches the frozen samples are measured, and what was found out of them on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from lightning_hessian.data import FrozenBatch, FrozenBatches
from lightning_hessian.errors import RefusedError
from lightning_hessian.fit.groups import TOGETHER, Open, group_size, is_same_loss, not_cut
from lightning_hessian.fit.noise import (
    FIXED,
    NOISY,
    ONE_PASS,
    PASSES,
    is_noisy,
    redraws,
    smaller_groups,
)
from lightning_hessian.fit.weighted_means import WEIGHTED, weigh_by_divisors
from lightning_hessian.options import LossSetup
from lightning_hessian.processes import Processes, any_process, on_all_or_none
from lightning_hessian.records import Note
from lightning_hessian.sample_losses import exchanged, halved


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batching:
    """Frozen samples in the batches that they are measured in.

    Attributes:
        frozen: The batches. Where numbers depend on who shares a batch, or on random numbers of
            which no other draws are looked at, they count as a part of infinitely many: their
            scatter is the error.
        specimen: Batches of no more memory than the training's, to check products on.
        population: Samples that there are to draw from; None if not known.
        cost: What it took to find out, in sample gradients of this process.
        shared_cost: The same of all processes together.
        redrawn: Some of the batches under several other draws of the step's random numbers.
        notes: What to say of the batches in every report.
        is_mean: Whether the loss was seen to be a mean over samples, whoever shares a batch.
    """

    frozen: FrozenBatches
    specimen: FrozenBatches
    population: int | None
    cost: float = 0.0
    shared_cost: float = 0.0
    redrawn: tuple[FrozenBatches, ...] = ()
    notes: tuple[Note, ...] = ()
    is_mean: bool = False

    @property
    def may_become_noisy(self) -> bool:
        """Whether noise was looked for, and there was none."""
        return self.cost > 0 and not {NOISY, FIXED} & set(self.notes)


def choose_batching(
    setup: LossSetup,
    freeze: Callable[[int | None], FrozenBatches],
    open_loss: Open,
    *,
    trained: int | None,
    processes: Processes,
) -> Batching:
    """In groups where that is the same loss, else in batches of the training's size.

    Args:
        setup: Whether anything is asked for that depends on it.
        freeze: The samples in batches of a size, or as training has them.
        open_loss: Gives the loss over some batches.
        trained: Samples in a batch of the training; None where samples cannot be regrouped.
        processes: That share the batches.
    """
    frozen = freeze(None)
    plain = Batching(frozen=frozen, specimen=frozen, population=frozen.most)
    if setup.derivatives != "required":
        return plain
    plain = replace(plain, cost=PASSES * frozen.batches[0].num_samples)
    if is_noisy(open_loss, frozen):
        if setup.loss.noise == "fixed":
            return replace(plain, notes=(FIXED,))
        size = smaller_groups(setup, open_loss, frozen, trained)
        plain = replace(plain, cost=2 * plain.cost + ONE_PASS * (size or 0))
        return _with_draws(plain, frozen if size is None else freeze(size), processes.size)
    if setup.loss.weight_fn is not None:
        return plain
    size = group_size(setup, frozen, trained, processes.size)
    # where there is nothing to group, halves of the batches show what depends on them
    other = _halved(frozen, processes) if size is None else freeze(size)
    if isinstance(other, Note):
        return replace(plain, notes=(other,))
    plain = replace(plain, shared_cost=2 * frozen.num_samples)
    is_same = is_same_loss(open_loss, frozen, other)
    if isinstance(is_same, Note) and (others := _exchanged(frozen, processes)) is not None:
        # a step that takes batches of one size alone may take others of that size
        size, other = None, others
        plain = replace(plain, shared_cost=4 * frozen.num_samples)
        is_same = is_same_loss(open_loss, frozen, other)
    if isinstance(is_same, Note):
        return replace(plain, notes=(is_same,))
    if not is_same:
        plain = replace(plain, shared_cost=plain.shared_cost + 2 * frozen.num_samples)
        weighted = weigh_by_divisors(open_loss, frozen, other)
        if weighted is None:
            endless = replace(frozen, population=None)
            return replace(plain, frozen=endless, specimen=endless, notes=(TOGETHER,))
        return replace(plain, frozen=weighted, specimen=weighted, notes=(WEIGHTED,))
    # two or three samples are not halved
    plain = replace(plain, is_mean=size is not None or frozen.batches[0].num_samples not in (2, 3))
    if size is None:
        return plain
    # of a batch as large as memory has room for, float64 and copies may not fit; the first is kept
    first = replace(frozen, batches=frozen.batches[:1])
    is_larger = trained is not None and size > trained
    return replace(plain, frozen=other, specimen=first if is_larger else other)


def _with_draws(plain: Batching, frozen: FrozenBatches, num_processes: int) -> Batching:
    """Of a noisy loss, whose other draws are looked at or hidden in the scatter of the batches."""
    redrawn = redraws(frozen, num_processes)
    return replace(
        plain,
        frozen=frozen if redrawn else replace(frozen, population=None),
        specimen=frozen,
        redrawn=redrawn,
        notes=(NOISY,),
    )


def _halved(frozen: FrozenBatches, processes: Processes) -> FrozenBatches | Note:
    """Batches in halves, on all processes or, where some cannot be cut, on none; then why."""

    def cut() -> tuple[FrozenBatch, ...]:
        return tuple(half for batch in frozen.batches for half in halved(batch))

    try:
        return replace(frozen, batches=on_all_or_none(processes, cut))
    except RefusedError as error:
        return not_cut(error)


def _exchanged(frozen: FrozenBatches, processes: Processes) -> FrozenBatches | None:
    """Batches of which each has samples of another, on all processes or on none."""
    try:
        batches = on_all_or_none(processes, partial(exchanged, frozen.batches))
    except RefusedError:
        batches = None
    if any_process(processes, batches is None):
        return None
    assert batches is not None
    return replace(frozen, batches=batches)
