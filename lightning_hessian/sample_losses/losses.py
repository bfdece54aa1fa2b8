"""The loss of each frozen sample alone, by the user's own step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from lightning_hessian.data import FrozenBatch
from lightning_hessian.errors import (
    InterruptedMeasurementError,
    NonFiniteError,
    RefusedError,
    RestorationError,
)
from lightning_hessian.loss import Conductor, TrainingLoss
from lightning_hessian.processes import any_process, enter_on_all, on_all_or_none
from lightning_hessian.records import Note, SampleMethod, Separability
from lightning_hessian.sample_losses.one_by_one import Positions, loss_of, losses_alone
from lightning_hessian.sample_losses.reductions import Reductions
from lightning_hessian.sample_losses.separability import (
    Handful,
    check_separability,
    compare_with_halves,
    some_of,
    tolerance,
    unlike_the_handful,
)

_NOTES: dict[Separability | None, Note] = {
    "sum": Note(
        "loss-is-sum",
        "The loss of a batch is the sum of its samples' losses; here it is their mean.",
    ),
    "weighted mean": Note(
        "loss-is-weighted-mean",
        "Training weighs samples within a batch, perhaps by their number of tokens or by weights "
        "in the data. Here the loss of each sample alone counts alike, so that their mean is not "
        "quite the loss of a batch.",
    ),
    None: Note(
        "mean-not-verified",
        "That a batch's loss is a mean over its samples could not be verified, as no two samples "
        "fit into one batch.",
    ),
}

_TOO_SMALL = Note(
    "losses-too-small",
    "All losses are so near to zero that it could not be verified whether a batch's loss is a mean "
    "over its samples, nor whether they are read off it rightly. Give `precision=64`.",
)
MANY_TOLERANCES = 100


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SampleLosses:
    """The loss of each sample alone.

    Attributes:
        values: ``(N,)`` float64, in the order of the frozen samples.
        separability: How they make up the loss of a batch; the mean, where it is unknown.
        method: How they were computed.
        notes: What to beware of.
    """

    values: Tensor
    separability: Separability
    method: SampleMethod
    notes: tuple[Note, ...]


def sample_losses(loss: TrainingLoss | Conductor) -> SampleLosses:
    """Compute the loss ``(N,)`` that the step gives for each frozen sample of all processes alone.

    It is read off the step's own run on whole batches, see :class:`Reductions`, where that agrees
    with the step on a handful of samples one by one, and on two of a batch of each other size; else
    the step is called for each sample. That a batch's loss is made of its samples' is verified each
    time, on the handful and on two parts of every batch, these with other random numbers.

    Costs three passes over the samples without derivatives, or one call of the step for each.

    Raises:
        RefusedError: If the loss of a batch is not made of the losses of its samples, the step
            draws random numbers, or a batch cannot be cut into samples.
        NonFiniteError: If a loss is NaN or infinite.
    """
    return loss.run_on_all(_sample_losses)


def sample_losses_at(
    loss: TrainingLoss | Conductor, displacement: Tensor, *, method: SampleMethod
) -> Tensor:
    """Compute the losses ``(N,)`` of single samples at ``w + displacement``.

    The method was found to be right at ``w``; it is verified no more. Costs one pass.

    Raises:
        NonFiniteError: If a loss is NaN or infinite there.
    """
    return loss.run_on_all(partial(_sample_losses_at, method=method), displacement)


def held_out_losses(loss: TrainingLoss | Conductor) -> tuple[SampleLosses, str] | None:
    """Losses of samples that training does not see, and what they are; None without such."""
    return loss.run_on_all(_held_out_losses)


def _held_out_losses(loss: TrainingLoss) -> tuple[SampleLosses, str] | None:
    held_out = loss.held_out
    if held_out is None:
        return None
    try:
        return _sample_losses(held_out), held_out.sample.description
    except (InterruptedMeasurementError, RestorationError):
        raise
    except Exception as error:
        raise RefusedError(
            f"the losses of {held_out.sample.description} could not be computed "
            f"({type(error).__name__}: {error}). Give by `held_out` a loader of batches that the "
            "step takes, or False."
        ) from error


def _sample_losses(loss: TrainingLoss) -> SampleLosses:
    separability, handful = check_separability(loss)
    sizes = Positions.of(loss).sizes
    is_exact = on_all_or_none(loss.processes, lambda: _verify(loss, handful, sizes))
    method: SampleMethod = "one by one" if any_process(loss.processes, not is_exact) else "batched"
    values: Tensor | None = None
    if method == "batched":
        values = _values(loss, method, separability)
    # a batch may hold a scalar that cannot be followed, though others did not
    if values is None:
        method = "one by one"
        values = _values(loss, method, separability)
    assert values is not None
    notes = [] if separability == "mean" else [_NOTES[separability]]
    if 0 < float(values.abs().max()) < MANY_TOLERANCES * tolerance(loss.dtype, 0.0):
        notes.append(_TOO_SMALL)
    return SampleLosses(
        values=values.cpu(),
        separability=separability or "mean",
        method=method,
        notes=tuple(notes),
    )


def _sample_losses_at(loss: TrainingLoss, displacement: Tensor, method: SampleMethod) -> Tensor:
    with enter_on_all(loss.processes, loss.displaced(displacement, 1.0)):
        values = _values(loss, method)
    if values is None:
        raise RefusedError(
            "the step takes another way at perturbed parameters, where the losses of single "
            "samples cannot be read off a batch's any more. Give `batch_size=1`."
        )
    return values.cpu()


def _verify(loss: TrainingLoss, handful: Handful | None, sizes: Iterable[int]) -> bool:
    """Find out whether what is read off whole batches is what some samples have alone."""
    if handful is None:
        return True
    answers = [_verify_on(loss, handful.batch, handful.rows, handful.alone)]
    # and on the last batch of each size: a tensor that does not run over samples may have as many
    # rows as the batches of one size, and not of another
    last = {batch.num_samples: batch for batch in loss.sample.batches}
    for size in sorted({size for size in sizes if size > 1}):
        # any other where there is none, so that all processes call the step equally often
        batch = last.get(size, loss.sample.batches[0])
        rows = (0, max(batch.num_samples - 1, 0))
        alone = [loss_of(loss, some_of(batch, [row])) for row in rows]
        answers.append(_verify_on(loss, batch, rows, alone))
    return all(answers)


def _verify_on(
    loss: TrainingLoss, batch: FrozenBatch, rows: Sequence[int], alone: Sequence[float]
) -> bool:
    try:
        found = _read_off(loss, batch)
    except (RefusedError, NonFiniteError, InterruptedMeasurementError, RestorationError):
        raise
    except Exception:
        # of the following, or of the step itself: then the step one by one will show it
        return False
    if found is None or batch.num_samples < 2:
        return found is not None
    allowed = tolerance(loss.dtype, max(map(abs, alone)))
    chosen = found[list(rows)].double().tolist()
    return all(abs(read - own) <= allowed for read, own in zip(chosen, alone, strict=True))


def _values(
    loss: TrainingLoss, method: SampleMethod, separability: Separability | None = None
) -> Tensor | None:
    """Of all processes' samples; None where they cannot be read off each batch."""
    positions = Positions.of(loss)
    count = positions.num_samples

    def add(total: Tensor, index: int) -> None:
        batch = loss.sample.batches[index]
        if method == "batched":
            losses = _read_off(loss, batch, separability)
        else:
            losses = _one_by_one(loss, batch)
        total[count + 1] += not compare_with_halves(loss, batch, separability)
        if losses is None:
            total[count] = 1
        elif not batch.is_repeat:
            total[positions.rows(batch)] = losses.double()

    total = loss.sum_over_batches(count + 2, add)
    if total[count + 1] > 0:
        raise RefusedError(unlike_the_handful(int(total[count + 1]), separability))
    if total[count] > 0:
        return None
    values = total[:count]
    num_bad = int((~values.isfinite()).sum())
    if num_bad:
        raise NonFiniteError(
            f"the loss of each sample must be finite, but it is NaN or infinite for {num_bad} of "
            f"{count}. Look for samples without targets, and for infinite inputs."
        )
    return values


def _read_off(
    loss: TrainingLoss, batch: FrozenBatch, separability: Separability | None = None
) -> Tensor | None:
    """From one run of the step on the whole batch; None if that does not show them."""
    if batch.num_samples == 1:
        return torch.tensor([loss_of(loss, batch)], dtype=torch.float64, device=loss.device)
    reductions = Reductions(batch.num_samples)
    with reductions:
        value = loss.evaluate(batch)
    rows = None if value is None else reductions.by_sample(value)
    if value is None or rows is None or separability not in ("mean", "sum"):
        return rows
    precise = rows.double()
    whole = precise.sum() if separability == "sum" else precise.mean()
    scale = precise.abs().sum() if separability == "sum" else precise.abs().max()
    allowed = tolerance(loss.dtype, float(scale))
    return rows if abs(float(whole - value.detach())) <= allowed else None


def _one_by_one(loss: TrainingLoss, batch: FrozenBatch) -> Tensor:
    return torch.tensor(list(losses_alone(loss, batch)), dtype=torch.float64, device=loss.device)
