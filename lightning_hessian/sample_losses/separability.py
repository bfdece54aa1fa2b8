"""Is the loss of a batch made of the losses of its samples? Asked on a handful of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_hessian.data import FrozenBatch
from lightning_hessian.errors import NoisyStepError, NonFiniteError, RefusedError
from lightning_hessian.loss import TrainingLoss
from lightning_hessian.processes import any_process, on_all_or_none
from lightning_hessian.records import Separability
from lightning_hessian.sample_losses.filling import AS_IT_IS, Filling
from lightning_hessian.sample_losses.joining import joined
from lightning_hessian.sample_losses.one_by_one import loss_of

NUM_ROWS = 6
MIN_DISTANCE = 100
"""Between the losses of two samples whose weights can be told apart, in tolerances."""

WAY_OUT = (
    "Define `hessian_loss(self, batch, batch_idx)`, or name a method by `Loss(which=...)`, that "
    "returns a mean over samples."
)
_KINDS: tuple[Separability, ...] = ("mean", "sum", "weighted mean")


@dataclass(frozen=True, slots=True)
class Handful:
    """A few samples, each alone and all together.

    Attributes:
        batch: The frozen batch that they are of, or batches of one sample each, joined. One of
            less than two samples tells nothing; then each loss is the batch's.
        rows: Their positions in it.
        alone: The loss of each; ``nan`` where it is not finite.
        together: The loss of a batch of all of them.
        tolerance: What two routes to the same loss may differ by.
        filling: How they became batches; losses are those of the batches.
    """

    batch: FrozenBatch
    rows: tuple[int, ...]
    alone: tuple[float, ...]
    together: float
    tolerance: float
    filling: Filling

    @property
    def kinds(self) -> frozenset[Separability]:
        """How the losses alone may make up the loss together, short of unequal weights."""
        if self.batch.num_samples < 2:
            return frozenset(_KINDS)
        total, count = sum(self.alone), len(self.alone)
        is_mean = abs(self.together - total / count) <= self.tolerance
        together = self.filling.share(count, "sum") * self.together
        is_sum = abs(together - self.filling.share(1, "sum") * total) <= self.tolerance
        fits = (is_mean, is_sum, is_mean)
        return frozenset(kind for kind, fit in zip(_KINDS, fits, strict=True) if fit)


@dataclass(frozen=True, slots=True)
class _Parts:
    """Disjoint parts of a batch, by their rows, and the loss of each alone."""

    batch: FrozenBatch
    rows: list[list[int]]
    alone: tuple[float, ...]
    tolerance: float
    filling: Filling

    def joined(self, which: Sequence[int]) -> FrozenBatch:
        """Some of them as one batch."""
        return self.filling.some_of(self.batch, sorted(row for i in which for row in self.rows[i]))


def tolerance(dtype: torch.dtype, scale: float) -> float:
    """What two routes to one loss may differ by: kernels round by the size of a batch.

    A share of the scale, and not less than some roundings of a logarithm near one.
    """
    relative, absolute = (1e-10, 1e-14) if dtype == torch.float64 else (1e-5, 1e-6)
    return relative * scale + absolute


def check_separability(
    loss: TrainingLoss, filling: Filling = AS_IT_IS
) -> tuple[Separability | None, Handful | None]:
    """Compare the losses of some samples alone with the loss of a batch of all of them.

    Costs about 15 evaluations of at most six samples. Every process asks about samples of its own,
    by equally many calls of the step.

    Returns:
        How samples make up a batch, the same on all processes, and the handful of this one. None
        where no two samples fit into one batch, so that nothing can be compared.

    Raises:
        NoisyStepError: If the step draws random numbers.
        RefusedError: If a batch is not made of its samples.
    """
    processes = loss.processes
    source = on_all_or_none(processes, lambda: _source(loss))
    counts = torch.zeros(NUM_ROWS + 1, dtype=torch.float64, device=processes.device)
    counts[min(source.num_samples, NUM_ROWS)] = 1
    # as many rows on each as on the one that has the fewest to compare
    several = processes.sum(counts)[2:].nonzero().flatten().tolist()
    if not several:
        return None, None
    num_rows = filling.most(2 + several[0])
    handful = on_all_or_none(processes, lambda: _handful(loss, source, num_rows, filling))
    kinds = handful.kinds
    if any_process(processes, not kinds):
        rows = [[row] for row in handful.rows]
        parts = _Parts(handful.batch, rows, handful.alone, handful.tolerance, filling)
        is_weighted = on_all_or_none(processes, lambda: _fit_weighted_mean(loss, parts))
        if is_weighted and not kinds:
            kinds = frozenset({"weighted mean"})
    votes = torch.tensor([kind in kinds for kind in _KINDS], dtype=torch.float64)
    found = (processes.sum(votes.to(processes.device)) == processes.size).tolist()
    if not any(found):
        on_all_or_none(processes, lambda: _refuse(handful, kinds))
        raise RefusedError(
            "the loss of a batch is the mean of its samples' losses on some processes, and their "
            f"sum on others. {WAY_OUT}"
        )
    return _KINDS[found.index(True)], handful


def _source(loss: TrainingLoss) -> FrozenBatch:
    """A batch of several samples; where there are only batches of one, some of these joined."""
    own = loss.sample.batches
    largest = max(own, key=lambda batch: batch.num_samples)
    if largest.num_samples != 1:
        return largest
    singles = [batch for batch in own if batch.num_samples == 1]
    return joined(singles[:NUM_ROWS]) or largest


def _handful(loss: TrainingLoss, source: FrozenBatch, num_rows: int, filling: Filling) -> Handful:
    generator = torch.Generator().manual_seed(source.index)
    order = torch.randperm(max(source.num_samples, num_rows), generator=generator)[:num_rows]
    rows = tuple(sorted(order.tolist()))
    together = filling.some_of(source, rows)
    value = finite_or_nan(loss, together)
    if math.isnan(value):
        loss_of(loss, source)  # where that is no number either, it is for other reasons
    alone = tuple(finite_or_nan(loss, filling.some_of(source, [row])) for row in rows)
    scale = max((abs(v) for v in (*alone, value) if math.isfinite(v)), default=0.0)
    allowed = tolerance(loss.dtype, scale)
    other = finite_or_nan(loss, together, seed=source.index + 1)
    if abs(other - value) > allowed:
        raise NoisyStepError(
            f"the step draws random numbers in eval mode: the same {num_rows} samples have a loss "
            f"of {value:.6g}, and with others {other:.6g}. Then a sample has no loss of its own, "
            "unless it can be read off its batch's, which it cannot here. Define "
            "`hessian_loss(self, batch, batch_idx)` without noise, or with noise that is part of "
            "the sample."
        )
    return Handful(source, rows, alone, value, allowed, filling)


def finite_or_nan(loss: TrainingLoss, batch: FrozenBatch, *, seed: int | None = None) -> float:
    """A loss over pairs of samples may be undefined for a few of them."""
    try:
        return loss_of(loss, batch, seed=seed)
    except NonFiniteError:
        return math.nan


def _fit_weighted_mean(loss: TrainingLoss, parts: _Parts) -> bool:
    """Find out whether weights, taken from pairs of parts, explain a larger batch too."""
    if parts.filling.is_only:
        # not any number of parts can be joined
        return False
    alone, allowed = parts.alone, parts.tolerance
    finite = [value if math.isfinite(value) else -math.inf for value in alone]
    base = max(range(len(alone)), key=lambda i: finite[i])
    weights = {base: 1.0}
    for other in range(len(alone)):
        if other == base:
            continue
        # of two parts of weights 1 and w it is (a + w b) / (1 + w)
        pair = finite_or_nan(loss, parts.joined([base, other]))
        if alone[base] - alone[other] > MIN_DISTANCE * allowed and pair != alone[other]:
            weights[other] = (pair - alone[base]) / (alone[other] - pair)
    # always, so that all processes call the step equally often
    chosen = finite_or_nan(loss, parts.joined(list(weights)))
    if len(weights) < 3 or not all(0 < weight < math.inf for weight in weights.values()):
        return False
    total = sum(weights.values())
    mean = sum(w * alone[i] for i, w in weights.items()) / total
    # an error e of a pair's loss moves w by e (1 + w)^2 / |a - b|, and w moves the mean
    moved = sum(
        (1 + w) ** 2 / (alone[base] - alone[i]) * abs(alone[i] - mean) / total
        for i, w in weights.items()
        if i != base
    )
    return abs(chosen - mean) <= (1 + moved) * allowed


def weights_explain(loss: TrainingLoss, batch: FrozenBatch, filling: Filling) -> bool:
    """Whether a batch, cut into a few parts at random, is a weighted mean of them.

    So it is where a handful had equal weights and few samples have others: windows that are padded,
    a rare class.
    """
    order = torch.randperm(batch.num_samples, generator=torch.Generator().manual_seed(batch.index))
    rows = [sorted(part.tolist()) for part in order.tensor_split(NUM_ROWS) if len(part)]
    if filling.is_only:
        return False
    alone = tuple(finite_or_nan(loss, filling.some_of(batch, part)) for part in rows)
    scale = max((abs(value) for value in alone if math.isfinite(value)), default=0.0)
    parts = _Parts(batch, rows, alone, tolerance(loss.dtype, scale), filling)
    return _fit_weighted_mean(loss, parts)


def compare_with_halves(
    loss: TrainingLoss,
    batch: FrozenBatch,
    separability: Separability | None,
    whole: float | None = None,
    filling: Filling = AS_IT_IS,
) -> bool:
    """Compare the loss of a batch with those of two random halves, under other random numbers.

    A handful may miss an interaction, a weight or noise that only few samples have. True also where
    there is nothing to hold against it: for other than a mean and a sum, and for a single sample.
    """
    count = batch.num_samples
    if separability not in ("mean", "sum"):
        return True
    order = torch.randperm(count, generator=torch.Generator().manual_seed(batch.index))
    # or in thirds and so on, where halves are of no size that the step takes
    halves = [sorted(half.tolist()) for half in order.tensor_split(filling.num_parts())]
    if whole is None:
        whole = loss_of(loss, filling.whole(batch)) * filling.share(count, separability)
    seed = batch.index + 1
    # one of a single sample too, so that all processes call the step equally often
    parts = [finite_or_nan(loss, filling.some_of(batch, half), seed=seed) for half in halves]
    if count < 2:
        return True
    is_sum = separability == "sum"
    shares = [filling.share(len(h), "sum") if is_sum else len(h) / count for h in halves]
    made = sum(share * part for share, part in zip(shares, parts, strict=True))
    return abs(made - whole) <= tolerance(loss.dtype, max(map(abs, (*parts, whole))))


def is_made_of(
    whole: float, values: Tensor, separability: Separability | None, dtype: torch.dtype
) -> bool:
    """Whether the loss of a batch is the mean or sum of these; True for what is neither."""
    if separability not in ("mean", "sum") or not len(values):
        return True
    made = float(values.sum() if separability == "sum" else values.mean())
    return abs(made - whole) <= tolerance(dtype, max(abs(made), abs(whole)))


def unlike_the_handful(num_batches: int, separability: Separability | None) -> str:
    """Why samples are refused where some batches are not made as a handful of samples was."""
    return (
        f"the loss of a handful of samples is the {separability} of their losses, but in "
        f"{num_batches} of the frozen batches that of the whole is not the {separability} of its "
        "halves: a few samples interact, weigh more than others, or draw random numbers. What a "
        f"sample adds cannot be told. {WAY_OUT} Should rounding alone set the two apart, give "
        "`precision=64`."
    )


def _refuse(handful: Handful, kinds: frozenset[Separability]) -> None:
    """On a process whose handful is not explained in any way."""
    if not kinds:
        raise RefusedError(
            "the loss of a batch is not made of the losses of its samples: those of "
            f"{len(handful.rows)} samples are {_listed(handful.alone)}, each computed alone, "
            f"whereas a batch of all of them has {handful.together:.6g}, which is neither their "
            "mean nor their sum, nor a weighted mean. So it is with contrastive losses and with "
            f"statistics of the batch. What a sample adds cannot be told. {WAY_OUT} Should "
            "rounding alone set the two apart, give `precision=64`."
        )


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.6g}" for value in values)
