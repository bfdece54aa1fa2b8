"""One pass over the samples: their losses, read off whole batches or computed one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from lightning_hessian.loss import TrainingLoss
from lightning_hessian.processes import on_all_or_none
from lightning_hessian.records import SampleMethod, Separability
from lightning_hessian.sample_losses.filling import AS_IT_IS, Filling
from lightning_hessian.sample_losses.one_by_one import loss_of, losses_alone
from lightning_hessian.sample_losses.reductions import Reductions
from lightning_hessian.sample_losses.regrouped import Group
from lightning_hessian.sample_losses.separability import tolerance


@dataclass(frozen=True, slots=True, eq=False)
class Pass:
    """What one pass over the samples has found.

    Attributes:
        values: ``(N,)`` float64, of all processes' samples; None where a group does not show them.
        wholes: The loss of each of this process's groups; None where it was not computed.
    """

    values: Tensor | None
    wholes: tuple[float | None, ...]


def read(
    loss: TrainingLoss,
    groups: Sequence[Group],
    count: int,
    *,
    method: SampleMethod,
    separability: Separability | None = None,
    filling: Filling = AS_IT_IS,
    is_trial: bool = False,
    on_graph: Callable[[Tensor], None] | None = None,
) -> Pass:
    """Pass once over groups of samples, ``count`` on all processes together.

    What is read off a group must make up its loss, for a mean and a sum. In a trial what fails is
    not shown, rather than an error: it is to be told of the batches that training has. ``on_graph``
    is told the loss of each group with its graph.

    Raises:
        NonFiniteError: If a loss is NaN or infinite.
    """
    total = on_all_or_none(
        loss.processes,
        lambda: torch.zeros(count + 1, dtype=torch.float64, device=loss.device),
    )
    wholes: list[float | None] = []

    def add(group: Group) -> None:
        if method == "batched":
            losses, whole = read_off(
                loss,
                group.batch,
                seed=group.seed,
                separability=separability,
                filling=filling,
                is_trial=is_trial,
                on_graph=on_graph,
            )
        else:
            alone = list(losses_alone(loss, group.batch, filling))
            losses, whole = torch.tensor(alone, dtype=torch.float64), None
        wholes.append(whole)
        if losses is None:
            total[count] = 1
        elif len(group.positions):
            total[group.positions.to(total.device)] = losses.to(total)

    for group in groups:
        on_all_or_none(loss.processes, partial(add, group))
    summed = loss.processes.sum(total)
    if summed[count] > 0:
        return Pass(None, tuple(wholes))
    values = summed[:count]
    num_bad = int((~values.isfinite()).sum())
    if num_bad and is_trial:
        return Pass(None, tuple(wholes))
    if num_bad:
        raise NonFiniteError(
            f"the loss of each sample must be finite, but it is NaN or infinite for {num_bad} of "
            f"{count}. Look for samples without targets, and for infinite inputs."
        )
    return Pass(values, tuple(wholes))


def read_off(
    loss: TrainingLoss,
    batch: FrozenBatch,
    *,
    seed: int,
    separability: Separability | None,
    filling: Filling = AS_IT_IS,
    is_trial: bool = False,
    on_graph: Callable[[Tensor], None] | None = None,
) -> tuple[Tensor | None, float | None]:
    """The losses ``(m,)`` of a batch's samples by one run of the step, and its own.

    None for what that does not show. It may fail because it is followed: the step alone will tell.
    """
    try:
        losses, whole = _read_off(loss, filling.whole(batch), seed, separability, on_graph)
    except (InterruptedMeasurementError, RestorationError):
        raise
    except (RefusedError, NonFiniteError):
        if not is_trial:
            raise
        return None, None
    except Exception:
        return None, None
    # copies of a sample that fill the batch have its loss again
    own = None if losses is None else losses[: batch.num_samples]
    share = filling.share(batch.num_samples, separability)
    return own, None if whole is None else share * whole


def _read_off(
    loss: TrainingLoss,
    batch: FrozenBatch,
    seed: int,
    separability: Separability | None,
    on_graph: Callable[[Tensor], None] | None,
) -> tuple[Tensor | None, float | None]:
    if batch.num_samples == 1:
        value = loss_of(loss, batch, seed=seed)
        return torch.tensor([value], dtype=torch.float64), value
    reductions = Reductions(batch.num_samples)
    with reductions:
        output = loss.evaluate(batch, seed=seed)
    if output is None:
        return None, None
    if on_graph is not None:
        on_graph(output)
    whole, rows = float(output.detach()), reductions.by_sample(output)
    if rows is None or separability not in ("mean", "sum"):
        return rows, whole
    precise = rows.double()
    made = precise.sum() if separability == "sum" else precise.mean()
    scale = precise.abs().sum() if separability == "sum" else precise.abs().max()
    is_made = abs(float(made) - whole) <= tolerance(loss.dtype, float(scale))
    return (precise if is_made else None), whole
