"""Is the loss of a batch made of the losses of its samples? Asked on a handful of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from lightning_hessian.batches import FrozenBatch
from lightning_hessian.errors import NonFiniteError, RefusedError
from lightning_hessian.objective.loss import TrainingLoss
from lightning_hessian.objective.processes import agreed, anywhere
from lightning_hessian.objective.samples.alone import loss_of
from lightning_hessian.objective.samples.rows import joined, rows_of
from lightning_hessian.results import Separability

NUM_ROWS = 6
MIN_DISTANCE = 0.05
"""Between the losses of two samples whose weights can be told apart, relative to the largest."""

WAY_OUT = (
    "Define `hessian_loss(self, batch, batch_idx)`, or name a method by `loss=`, that returns a "
    "mean over samples."
)
_KINDS: tuple[Separability, ...] = ("mean", "sum", "weighted mean")


@dataclass(frozen=True, slots=True)
class Handful:
    """A few samples, each alone and all together.

    Attributes:
        batch: The frozen batch that they are of, or batches of one sample each, joined.
        rows: Their positions in it.
        alone: The loss of each; ``nan`` where it is not finite.
        together: The loss of a batch of all of them.
        tolerance: What two routes to the same loss may differ by.
    """

    batch: FrozenBatch
    rows: tuple[int, ...]
    alone: tuple[float, ...]
    together: float
    tolerance: float

    @property
    def kind(self) -> Separability | None:
        """How the losses alone make up the loss together; None if neither as mean nor as sum."""
        total = sum(self.alone)
        if abs(self.together - total / len(self.alone)) <= self.tolerance:
            return "mean"
        return "sum" if abs(self.together - total) <= self.tolerance else None


def tolerance(dtype: torch.dtype, scale: float) -> float:
    """What two routes to one loss may differ by: kernels round by the size of a batch.

    Args:
        dtype: Of the arithmetic.
        scale: Of the losses.

    Returns:
        A share of the scale, and not less than some roundings of a logarithm near one.
    """
    relative, absolute = (1e-9, 1e-14) if dtype == torch.float64 else (1e-4, 1e-6)
    return relative * scale + absolute


def check_separability(loss: TrainingLoss) -> tuple[Separability | None, Handful | None]:
    """Compare the losses of some samples alone with the loss of a batch of all of them.

    Costs about 15 evaluations of at most six samples. Every process asks about samples of its own,
    by equally many calls of the step.

    Args:
        loss: Inside its sandbox.

    Returns:
        How samples make up a batch, the same on all processes, and the handful of this one. None
        where no two samples fit into one batch, so that nothing can be compared.

    Raises:
        RefusedError: If a batch is not made of its samples, or the step draws random numbers.
    """
    processes = loss.processes
    source = agreed(processes, lambda: _source(loss))
    counts = torch.zeros(NUM_ROWS + 1, dtype=torch.float64, device=processes.device)
    counts[min(source.num_samples, NUM_ROWS)] = 1
    # as many rows on each as on the one that has the fewest
    num_rows = int(processes.sum(counts).nonzero()[0])
    if num_rows < 2:
        return None, None
    handful = agreed(processes, lambda: _handful(loss, source, num_rows))
    kind = handful.kind
    if anywhere(processes, kind is None):
        is_weighted = agreed(processes, lambda: _is_weighted_mean(loss, handful))
        kind = kind or ("weighted mean" if is_weighted else None)
    found = torch.tensor([kind == name for name in (*_KINDS, None)], dtype=torch.float64)
    mean, total, weighted, neither = processes.sum(found.to(processes.device)).tolist()
    if neither or (total and (mean or weighted)):
        raise RefusedError(agreed(processes, lambda: _reason(handful)))
    return ("sum" if total else "weighted mean" if weighted else "mean"), handful


def _source(loss: TrainingLoss) -> FrozenBatch:
    """A batch of several samples; where there are only batches of one, some of these joined."""
    own = loss.batches.batches
    largest = max(own, key=lambda batch: batch.num_samples)
    if largest.num_samples != 1:
        return largest
    singles = [batch for batch in own if batch.num_samples == 1]
    return joined(singles[:NUM_ROWS]) or largest


def _handful(loss: TrainingLoss, source: FrozenBatch, num_rows: int) -> Handful:
    generator = torch.Generator().manual_seed(source.index)
    order = torch.randperm(source.num_samples, generator=generator)[:num_rows]
    rows = tuple(sorted(order.tolist()))
    together = rows_of(source, rows)
    value = loss_of(loss, together)
    alone = tuple(_finite_or_nan(loss, rows_of(source, [row])) for row in rows)
    scale = max((abs(v) for v in (*alone, value) if math.isfinite(v)), default=0.0)
    allowed = tolerance(loss.dtype, scale)
    other = loss_of(loss, together, seed=source.index + 1)
    if abs(other - value) > allowed:
        raise RefusedError(
            f"the step draws random numbers in eval mode: the same {num_rows} samples have a loss "
            f"of {value:.6g}, and with others {other:.6g}. Then a sample has no loss of its own. "
            "Define `hessian_loss(self, batch, batch_idx)` without noise, or with noise that is "
            "part of the sample."
        )
    return Handful(source, rows, alone, value, allowed)


def _finite_or_nan(loss: TrainingLoss, batch: FrozenBatch) -> float:
    """A loss over pairs of samples may be undefined for a single one."""
    try:
        return loss_of(loss, batch)
    except NonFiniteError:
        return math.nan


def _is_weighted_mean(loss: TrainingLoss, handful: Handful) -> bool:
    """Whether some weights, found from pairs of samples, explain a larger batch too."""
    # the loss of two samples of weights u and w is (u a + w b) / (u + w)
    alone, rows = handful.alone, handful.rows
    finite = [value if math.isfinite(value) else -math.inf for value in alone]
    base = max(range(len(rows)), key=lambda i: finite[i])
    scale = max(map(abs, (*alone, handful.together)))
    weights = {base: 1.0}
    for other in range(len(rows)):
        if other == base:
            continue
        pair = loss_of(loss, rows_of(handful.batch, sorted({rows[base], rows[other]})))
        if abs(alone[other] - alone[base]) > MIN_DISTANCE * scale and pair != alone[other]:
            weights[other] = (pair - alone[base]) / (alone[other] - pair)
    # always, so that all processes call the step equally often
    chosen = loss_of(loss, rows_of(handful.batch, sorted(rows[i] for i in weights)))
    if len(weights) < 3 or not all(0 < weight < math.inf for weight in weights.values()):
        return False
    mean = sum(w * alone[i] for i, w in weights.items()) / sum(weights.values())
    # an error of a pair's loss grows by the distance of the two
    return abs(chosen - mean) <= 10 / MIN_DISTANCE * handful.tolerance


def _reason(handful: Handful) -> str:
    return (
        "the loss of a batch is not made of the losses of its samples: those of "
        f"{len(handful.rows)} samples are {_listed(handful.alone)}, each computed alone, whereas a "
        f"batch of all of them has {handful.together:.6g}, which is neither their mean nor their "
        "sum, nor a weighted mean. So it is with contrastive losses and with statistics of the "
        f"batch. What a sample adds cannot be told. {WAY_OUT}"
    )


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.6g}" for value in values)
