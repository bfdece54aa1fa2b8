"""Frozen batches as an optimiser's steps take them: whole ones, of the training's size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Literal

from lightning_hessian.data.frozen import FrozenBatches
from lightning_hessian.data.plan import (
    BatchPlan,
    TrainingData,
    count_positions,
    epoch_of,
    planned,
    shuffled,
)
from lightning_hessian.errors import RefusedError

FEWEST_STEPS, ENOUGH_STEPS = 2, 4
"""With fewer than the first there is no standard error; that of the second tells something."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class StepBatches:
    """Some steps of the training, each in as many batches as it takes of each process.

    Attributes:
        frozen: This process's batches: those of a step stand in a row, ``per_process`` of them.
        per_process: Batches of a step on each process: those that gradients are accumulated over.
        per_step: The same of all processes together.
        step_size: Samples of a step.
        share: Of the steps that there are, where training takes the same ones in each epoch, or all
            samples in one; 0 where another epoch has others.
        are_halves: Whether two steps make up an epoch: the one has what the other lacks, so that
            they mirror each other about the mean, and their scatter tells nothing.
    """

    frozen: FrozenBatches
    per_process: int
    per_step: int
    step_size: int
    share: float = 0.0
    are_halves: bool = False

    @property
    def num_steps(self) -> int:
        """Of which this process has its part."""
        return len(self.frozen.batches) // self.per_process

    def first(self, num_steps: int) -> StepBatches:
        """The first of the steps, at least two but where one takes all samples.

        Args:
            num_steps: At most as many as there are.

        Returns:
            These alone.

        Raises:
            RefusedError: If there are fewer.
        """
        if num_steps < FEWEST_STEPS and self.share < 1:
            raise RefusedError(too_few(num_steps * self.step_size, self.step_size))
        batches = self.frozen.batches[: num_steps * self.per_process]
        share = self.share * num_steps / self.num_steps
        return replace(self, frozen=replace(self.frozen, batches=batches), share=share)


@dataclass(frozen=True, slots=True, eq=False)
class StepPlan:
    """Which samples are in which batch of which step; see :class:`StepBatches`.

    Attributes:
        batches: Those of a step in a row, all processes' together.
        step_size: Samples of a step.
        share: Of a finite set of steps.
        are_halves: Whether two steps make up an epoch.
    """

    batches: BatchPlan
    step_size: int
    share: float
    are_halves: bool


def plan_of_steps(
    data: TrainingData,
    *,
    num_samples: int | Literal["all"],
    per_step: int,
    seed: int,
    build: Callable[[list[Any]], Any],
) -> StepPlan:
    """Draw steps of an epoch: those of the same samples as :func:`plan_batches`, where it shuffles.

    Where training keeps its batches from epoch to epoch, or a sampler makes them, whole steps of
    theirs are drawn instead. A smaller batch at the end of an epoch belongs to none. There are as
    many steps as the samples make, and four where these make fewer.

    Args:
        data: Of the one training loader.
        num_samples: That are to be in them.
        per_step: Batches to a step.
        seed: Of the draw.
        build: Makes the batch of a step from one batch of each data set.

    Raises:
        RefusedError: If batches differ in size, an epoch has no whole step, or one alone that is
            less than all samples.
    """
    population, epoch = count_positions(data), epoch_of(data, seed)
    if data.groups is not None:
        size = same_size([len(group) for group in epoch])
    else:
        size = min(data.batch_size, population)
    whole = [group for group in epoch if len(group) == size]
    steps = [whole[i : i + per_step] for i in range(0, len(whole) - per_step + 1, per_step)]
    step_size = per_step * size
    if not steps:
        raise RefusedError(
            f"an epoch has {len(whole)} batches of {size} samples, fewer than the {per_step} that "
            "one step of the optimiser takes. Lower `accumulate_grad_batches`."
        )
    wanted = population if num_samples == "all" else num_samples
    count = min(max(wanted // step_size, ENOUGH_STEPS), len(steps))
    is_all = step_size == population and not data.is_redrawn
    if count < FEWEST_STEPS and not is_all:
        raise RefusedError(too_few(population, step_size))
    keeps = data.is_ordered and not data.is_redrawn
    # of shuffled samples the first steps are a draw of all
    is_dealt = not (data.is_ordered or data.is_redrawn)
    order = range(count) if is_dealt else shuffled(range(len(steps)), seed)[:count]
    chosen = [steps[place] for place in order]
    return StepPlan(
        BatchPlan(
            data=(data,),
            batches=planned(list(chain(*chosen))),
            build=build,
            description=f"{count:,} steps of {step_size:,} samples each of {data.description}",
        ),
        step_size=step_size,
        share=count / len(steps) if keeps or is_all else 0.0,
        are_halves=len(steps) == 2 and not (keeps or data.is_redrawn),
    )


def steps_of_stream(
    taken: FrozenBatches, *, batch_size: int | None, per_process: int, num_processes: int
) -> StepBatches:
    """The whole batches of those that training was seen to take, in steps.

    Args:
        taken: By this process.
        batch_size: That the loader declares; when None all batches but the last must be alike.
        per_process: Batches of each process to a step.
        num_processes: That share a step.

    Raises:
        RefusedError: If batches differ in size.
    """
    size = batch_size or same_size([batch.num_samples for batch in taken.batches])
    whole = tuple(batch for batch in taken.batches if batch.num_samples == size)
    return StepBatches(
        frozen=replace(taken, batches=whole[: len(whole) // per_process * per_process]),
        per_process=per_process,
        per_step=per_process * num_processes,
        step_size=size * per_process * num_processes,
    )


def same_size(sizes: Sequence[int]) -> int:
    """That of all batches but perhaps a smaller last one.

    Raises:
        RefusedError: If there is none.
    """
    full = sizes[0]
    if any(size != full for size in sizes[:-1]) or sizes[-1] > full:
        raise RefusedError(
            f"the batches of training must have one size, got {min(sizes)} to {max(sizes)} "
            "samples. Give the loader a `batch_size`."
        )
    return full


def too_few(num_samples: int, step_size: int) -> str:
    """That so many samples are no two steps, and how many are."""
    return (
        f"a standard error takes two steps of {step_size:,} samples each at least, but "
        f"{num_samples:,} samples are there. Lower the batch size, or `accumulate_grad_batches`."
    )
