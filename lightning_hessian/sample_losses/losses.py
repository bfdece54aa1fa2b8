"""The loss of each frozen sample alone, by the user's own step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from lightning_hessian.errors import (
    InterruptedMeasurementError,
    RefusedError,
    RestorationError,
)
from lightning_hessian.loss import Conductor, TrainingLoss
from lightning_hessian.processes import enter_on_all
from lightning_hessian.records import Note, SampleMethod, Separability
from lightning_hessian.sample_losses.filling import AS_IT_IS, Filling
from lightning_hessian.sample_losses.one_by_one import Positions
from lightning_hessian.sample_losses.reading import read
from lightning_hessian.sample_losses.regrouped import as_frozen
from lightning_hessian.sample_losses.separability import tolerance
from lightning_hessian.sample_losses.verified import Verified, verified, verified_again

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
_FROZEN_NOISE = Note(
    "noise-frozen",
    "The step draws random numbers: each sample has its loss under one draw of them, always the "
    "same, as if it were a part of the sample. What a sample adds is so with its noise, as "
    "training meets it; of losses averaged over draws it would be less.",
)
MANY_TOLERANCES = 100


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SampleLosses:
    """The loss of each sample alone.

    Attributes:
        values: ``(N,)`` float64, in the order of the frozen samples.
        separability: How they make up the loss of a batch; the mean, where it is unknown.
        method: How they were computed.
        filling: How some samples become a batch of a size that the step takes.
        notes: What to beware of.
        verified: What later reports on the same samples may rely on; None where nothing is certain.
    """

    values: Tensor
    separability: Separability
    method: SampleMethod
    filling: Filling
    notes: tuple[Note, ...]
    verified: Verified | None


def sample_losses(
    loss: TrainingLoss | Conductor, known: Verified | None = None, *, may_regroup: bool = True
) -> SampleLosses:
    """Compute the loss ``(N,)`` that the step gives for each frozen sample of all processes alone.

    It is read off the step's own run on whole batches, see :class:`Reductions`, where that agrees
    with the step on a handful of samples one by one, and on two of a batch of each size; else the
    step is called for each sample. That a batch's loss is made of its samples' is verified on the
    handful, and on every batch by another pass, in which each batch is cut in two and either half
    is evaluated among samples of others (:func:`regrouped`) or, where batches cannot be joined,
    alone; with other random numbers. Each sample must have the same loss in both passes.

    Of what an earlier call has found, on the same samples, only a part is looked at again: what is
    read off a batch must make up its loss, and some samples of one batch, another each time, must
    have the same losses in a batch of their own and one of them alone. If they have not, all is
    verified anew.

    Where the step draws random numbers, each sample has the loss of one draw of them, see
    :func:`losses_with_noise`. Where it does not take a sample alone, or an odd number of them, a
    batch is filled with copies of each, see :class:`Filling`.

    Costs two passes over the samples without derivatives and three where batches cannot be joined,
    or one call of the step for each; later one pass, and a sixteenth of it, at most 64 samples.

    Args:
        loss: Whose frozen samples they are.
        known: What the call before found.
        may_regroup: Whether larger batches may be made than training has.

    Raises:
        RefusedError: If the loss of a batch is not made of the losses of its samples, the step
            draws random numbers and no sample's loss can be read off a batch, or a batch cannot be
            cut into samples.
        UntakenBatchError: If the step does not take batches that samples can be measured in.
        NonFiniteError: If a loss is NaN or infinite.
    """
    return loss.run_on_all(partial(_sample_losses, known=known, may_regroup=may_regroup))


def sample_losses_at(
    loss: TrainingLoss | Conductor,
    displacement: Tensor,
    *,
    method: SampleMethod,
    filling: Filling = AS_IT_IS,
) -> Tensor:
    """Compute the losses ``(N,)`` of single samples at ``w + displacement``.

    Method and filling were found to be right at ``w``, for a mean; they are verified no more. Costs
    one pass.

    Raises:
        NonFiniteError: If a loss is NaN or infinite there.
    """
    compute = partial(_sample_losses_at, method=method, filling=filling)
    return loss.run_on_all(compute, displacement)


def held_out_losses(
    loss: TrainingLoss | Conductor, known: Verified | None = None, *, may_regroup: bool = True
) -> tuple[SampleLosses, str] | None:
    """Losses of samples that training does not see, and what they are; None without such."""
    return loss.run_on_all(partial(_held_out_losses, known=known, may_regroup=may_regroup))


def samples_evaluated(loss: TrainingLoss | Conductor) -> int:
    """Samples that the step was called on since the loss was opened, each time counted."""
    return loss.run_on_all(_samples_evaluated)


def _samples_evaluated(loss: TrainingLoss) -> int:
    held_out = loss.held_out
    own = loss.num_evaluated + (0 if held_out is None else held_out.num_evaluated)
    count = torch.full((1,), float(own), dtype=torch.float64, device=loss.processes.device)
    return int(loss.processes.sum(count))


def _held_out_losses(
    loss: TrainingLoss, known: Verified | None, may_regroup: bool
) -> tuple[SampleLosses, str] | None:
    held_out = loss.held_out
    if held_out is None:
        return None
    try:
        return _sample_losses(held_out, known, may_regroup), held_out.sample.description
    except (InterruptedMeasurementError, RestorationError):
        raise
    except Exception as error:
        raise RefusedError(
            f"the losses of {held_out.sample.description} could not be computed "
            f"({type(error).__name__}: {error}). Give by `held_out` a loader of batches that the "
            "step takes, or False."
        ) from error


def _sample_losses(loss: TrainingLoss, known: Verified | None, may_regroup: bool) -> SampleLosses:
    positions = Positions.of(loss)
    values = None if known is None else verified_again(loss, positions, known)
    if known is None or values is None:
        known, values = verified(loss, positions, may_regroup)
    notes = [] if known.separability == "mean" else [_NOTES[known.separability]]
    if known.is_noisy:
        notes.append(_FROZEN_NOISE)
    is_too_small = 0 < float(values.abs().max()) < MANY_TOLERANCES * tolerance(loss.dtype, 0.0)
    if is_too_small:
        notes.append(_TOO_SMALL)
    return SampleLosses(
        values=values.cpu(),
        separability=known.separability or "mean",
        method=known.method,
        filling=known.filling,
        notes=tuple(notes),
        verified=None if is_too_small else replace(known, turn=known.turn + 1),
    )


def _sample_losses_at(
    loss: TrainingLoss, displacement: Tensor, method: SampleMethod, filling: Filling
) -> Tensor:
    positions = Positions.of(loss)
    with enter_on_all(loss.processes, loss.displaced(displacement, 1.0)):
        groups = as_frozen(loss, positions)
        values = read(loss, groups, positions.num_samples, method=method, filling=filling).values
    if values is None:
        raise RefusedError(
            "the step takes another way at perturbed parameters, where the losses of single "
            "samples cannot be read off a batch's any more. Give `batch_size=1`."
        )
    return values.cpu()
