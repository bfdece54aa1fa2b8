"""What was found out of the losses of samples, and how it is looked at again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from lightning_hessian.data import FrozenBatch
from lightning_hessian.errors import NoisyStepError, RefusedError
from lightning_hessian.loss import TrainingLoss
from lightning_hessian.processes import any_process, on_all_or_none
from lightning_hessian.records import SampleMethod, Separability
from lightning_hessian.sample_losses.filling import (
    AS_IT_IS,
    NOT_THE_STEPS,
    Filling,
    find_filling,
    refuse_untaken,
)
from lightning_hessian.sample_losses.frozen_noise import (
    losses_with_noise,
    read_with_noise,
    samples_keep_losses,
)
from lightning_hessian.sample_losses.one_by_one import Positions, loss_of
from lightning_hessian.sample_losses.reading import Pass, read, read_off
from lightning_hessian.sample_losses.regrouped import GraphSize, Group, as_frozen, regrouped
from lightning_hessian.sample_losses.separability import (
    Handful,
    check_separability,
    compare_with_halves,
    finite_or_nan,
    is_made_of,
    tolerance,
    unlike_the_handful,
    weights_explain,
)

MOST_COPIES = 8
"""Of a sample that a batch is filled with, where each has to be computed alone."""
MOST_CHECKED, SHARE_CHECKED = 64, 1 / 16
"""Samples that are looked at again in each report, and of how many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What was found out of a loss, and is looked at again in part only.

    Attributes:
        separability: How samples make up a batch; None where no two fit into one.
        method: How their losses are computed.
        num_joined: How many batches of the training each that they are read off is as large as;
            1 where it is one of these itself.
        is_noisy: Whether each has the loss of one draw of the step's random numbers.
        filling: How some samples become a batch of a size that the step takes.
        turn: Reports since then: each looks at another batch again.
    """

    separability: Separability | None
    method: SampleMethod
    num_joined: int
    is_noisy: bool = False
    filling: Filling = AS_IT_IS
    turn: int = 0


def samples_checked(num_samples: int) -> int:
    """How many of so many are looked at again in a report, one of them alone and so twice."""
    return 1 + max(2, min(round(SHARE_CHECKED * num_samples), MOST_CHECKED))


def verified(
    loss: TrainingLoss, positions: Positions, may_regroup: bool
) -> tuple[Verified, Tensor]:
    """In batches as they come, or, where the step fails on some, of sizes that it takes."""
    try:
        return _verified_in_full(loss, positions, may_regroup, AS_IT_IS)
    except NOT_THE_STEPS:
        raise
    except Exception as error:
        filling = find_filling(loss, error)
    try:
        return _verified_in_full(loss, positions, may_regroup, filling)
    except NOT_THE_STEPS:
        raise
    except Exception as error:
        raise refuse_untaken(error, filling) from error


def _verified_in_full(
    loss: TrainingLoss, positions: Positions, may_regroup: bool, filling: Filling
) -> tuple[Verified, Tensor]:
    try:
        separability, handful = check_separability(loss, filling)
    except NoisyStepError:
        with_noise = losses_with_noise(loss, positions)
        if with_noise is None:
            raise
        kind, drawn = with_noise
        return Verified(separability=kind, method="batched", num_joined=1, is_noisy=True), drawn
    groups, count = as_frozen(loss, positions), positions.num_samples
    graph = GraphSize(loss)
    found = read(
        loss,
        groups,
        count,
        method="batched",
        separability=separability,
        filling=filling,
        on_graph=graph.see,
    )
    values = found.values
    if values is not None:
        read_rightly = partial(_is_read_rightly, loss, positions, handful, values, separability)
        if any_process(loss.processes, not on_all_or_none(loss.processes, read_rightly)):
            values = None
    method: SampleMethod = "one by one" if values is None else "batched"
    if values is None:
        values = _read_one_by_one(loss, positions, separability, filling)
    elif may_regroup and separability is not None and (num := graph.num_joined()) > 1:
        known = Verified(separability=separability, method=method, num_joined=num, filling=filling)
        others = _read_in_groups(loss, positions, known)
        if others is not None and _agree(loss, groups, found.wholes, values, others, separability):
            return known, others
    if _have_rare_weights(loss, groups, found, separability, filling):
        separability, method = "weighted mean", "one by one"
        values = _read_one_by_one(loss, positions, separability, filling)
    known = Verified(separability=separability, method=method, num_joined=1, filling=filling)
    return known, values


def _read_one_by_one(
    loss: TrainingLoss, positions: Positions, separability: Separability | None, filling: Filling
) -> Tensor:
    if filling.copies(1) > MOST_COPIES or (separability == "sum" and filling != AS_IT_IS):
        sizes = "that number" if filling.is_only else "a multiple of it"
        raise RefusedError(
            "the losses of single samples cannot be read off a batch's, and the step does not take "
            f"one alone: it takes {filling.unit} samples, or {sizes}. Define `hessian_loss(self, "
            "batch, batch_idx)`, a mean over the samples of a batch of any size."
        )
    groups = as_frozen(loss, positions)
    values = read(loss, groups, positions.num_samples, method="one by one", filling=filling).values
    assert values is not None
    return values


def verified_again(loss: TrainingLoss, positions: Positions, known: Verified) -> Tensor | None:
    """The values, if all that is looked at again is as it was."""
    if known.is_noisy:
        own = loss.sample.batches
        is_same = samples_keep_losses(loss, own[known.turn % len(own)], known.separability)
        return read_with_noise(loss, positions, known.separability) if is_same else None
    if known.num_joined > 1:
        values = _read_in_groups(loss, positions, known)
    else:
        values = read(
            loss,
            as_frozen(loss, positions),
            positions.num_samples,
            method=known.method,
            separability=known.separability,
            filling=known.filling,
            is_trial=True,
        ).values
    if values is None:
        return None
    check = partial(_is_as_it_was, loss, positions, known, values)
    is_other = any_process(loss.processes, not on_all_or_none(loss.processes, check))
    return None if is_other else values


def _read_in_groups(loss: TrainingLoss, positions: Positions, known: Verified) -> Tensor | None:
    groups = regrouped(loss, positions, known.num_joined)
    if groups is None:
        return None
    return read(
        loss,
        groups,
        positions.num_samples,
        method="batched",
        separability=known.separability,
        is_trial=True,
    ).values


def _is_read_rightly(
    loss: TrainingLoss,
    positions: Positions,
    handful: Handful | None,
    values: Tensor,
    separability: Separability | None,
) -> bool:
    """Whether what is read off whole batches is what some samples have alone."""
    if handful is None:
        return True
    found, filling = [], handful.filling
    share = filling.share(1, separability)
    is_frozen = any(handful.batch is batch for batch in loss.sample.batches)
    if is_frozen and handful.batch.num_samples > 1:
        expected = _values_of(handful.batch, handful.rows, positions, values)
        found.append(_is_close(loss, expected, [share * value for value in handful.alone]))
    # and in the last batch of each size: a tensor that does not run over samples may have as many
    # rows as the batches of one size, and not of another
    last = {batch.num_samples: batch for batch in loss.sample.batches}
    for size in sorted({size for size in positions.sizes if size > 1}):
        # any other where there is none, so that all processes call the step equally often
        batch = last.get(size, loss.sample.batches[0])
        rows = (0, max(batch.num_samples - 1, 0))
        alone = [share * loss_of(loss, filling.some_of(batch, [row])) for row in rows]
        found.append(_is_close(loss, _values_of(batch, rows, positions, values), alone))
    return all(found)


def _values_of(
    batch: FrozenBatch, rows: Sequence[int], positions: Positions, values: Tensor
) -> Tensor | None:
    """Of some samples of a batch; None for a batch that is a repeat, whose are another's."""
    if batch.is_repeat:
        return None
    return values[[positions.first[batch.index] + row for row in rows]]


def _is_close(loss: TrainingLoss, expected: Tensor | None, found: Sequence[float]) -> bool:
    if expected is None:
        return True
    allowed = tolerance(loss.dtype, max(map(abs, found)))
    return all(abs(a - b) <= allowed for a, b in zip(expected.tolist(), found, strict=True))


def _agree(
    loss: TrainingLoss,
    groups: list[Group],
    wholes: tuple[float | None, ...],
    values: Tensor,
    others: Tensor,
    separability: Separability,
) -> bool:
    """Whether samples have the losses in other batches that they have in those of the training."""

    def is_as_in_groups() -> bool:
        for group, whole in zip(groups, wholes, strict=True):
            own = values[group.positions]
            if not len(own):
                continue
            among_others = others[group.positions]
            distance = float((own - among_others).abs().max())
            if distance > tolerance(loss.dtype, float(own.abs().max())):
                return False
            assert whole is not None
            if not is_made_of(whole, among_others, separability, loss.dtype):
                return False
        return True

    return not any_process(loss.processes, not on_all_or_none(loss.processes, is_as_in_groups))


def _have_rare_weights(
    loss: TrainingLoss,
    groups: list[Group],
    found: Pass,
    separability: Separability | None,
    filling: Filling,
) -> bool:
    """Whether batches are unlike the handful by weights that few samples have.

    Those that are unlike it otherwise are refused. Several processes do not look for weights: they
    would call the step unequally often.
    """
    wholes = found.wholes
    unlike = torch.zeros(len(groups), dtype=torch.float64, device=loss.processes.device)

    def compare(index: int) -> None:
        batch = groups[index].batch
        whole = wholes[index]
        unlike[index] = not compare_with_halves(loss, batch, separability, whole, filling)

    for index in range(len(groups)):
        on_all_or_none(loss.processes, partial(compare, index))
    other = [group.batch for group, flag in zip(groups, unlike.tolist(), strict=True) if flag]
    num_unlike = int(loss.processes.sum(unlike).sum())
    if not num_unlike:
        return False
    may_be_weighted = separability == "mean" and loss.processes.size == 1
    if may_be_weighted and all(weights_explain(loss, batch, filling) for batch in other):
        return True
    raise RefusedError(unlike_the_handful(num_unlike, separability))


def _is_as_it_was(
    loss: TrainingLoss, positions: Positions, known: Verified, values: Tensor
) -> bool:
    """Whether samples of one batch have these losses in a batch of their own too, and one alone."""
    own = loss.sample.batches
    batch = own[known.turn % len(own)]
    size = batch.num_samples
    generator = torch.Generator().manual_seed(known.turn)
    # in groups the two halves of the batch were apart; else some are enough to be in another batch
    most = size if known.num_joined > 1 or known.method == "one by one" else (size + 1) // 2
    filling = known.filling
    count = filling.most(min(samples_checked(positions.num_samples) - 1, most))
    rows = sorted(torch.randperm(size, generator=generator)[:count].tolist())
    part, seed = filling.some_of(batch, rows), batch.index + 2 + known.turn
    expected = _values_of(batch, rows, positions, values)
    if known.method == "one by one":
        # a sum that is filled with copies is read off batches, or refused
        whole = finite_or_nan(loss, part, seed=seed)
        return expected is None or is_made_of(whole, expected, known.separability, loss.dtype)
    losses, value = read_off(loss, part, seed=seed, separability=known.separability, is_trial=True)
    row = int(torch.randint(count, (1,), generator=generator))
    alone = finite_or_nan(loss, filling.some_of(batch, [rows[row]]), seed=seed)
    alone *= filling.share(1, known.separability)
    if expected is None:
        return True
    if losses is None or value is None:
        return False
    allowed = tolerance(loss.dtype, float(expected.abs().max()))
    is_same = bool(((losses[:count].to(expected) - expected).abs() <= allowed).all())
    is_own = abs(alone - float(expected[row])) <= allowed
    value *= filling.share(count, known.separability)
    is_made = is_made_of(value, expected, known.separability, loss.dtype)
    return is_same and is_own and is_made
