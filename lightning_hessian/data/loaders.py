"""One loader or a collection of loaders, and the steps of an epoch over them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from lightning.pytorch import Trainer
from lightning.pytorch.utilities.combined_loader import CombinedLoader
from torch.utils.data import DataLoader, IterableDataset

from lightning_hessian.data.batches import (
    BatchPlan,
    PlannedBatch,
    TrainingData,
    grouped,
    plan_batches,
    refuse_empty,
    shuffled,
)
from lightning_hessian.data.training_data import is_indexable, training_data
from lightning_hessian.errors import RefusedError

DEFAULT_MODE = "max_size_cycle"


@dataclass(frozen=True, eq=False)
class Loaders:
    """A structure of loaders, as a Trainer combines them.

    Attributes:
        structure: One loader, or dictionaries and lists of loaders.
        leaves: The loaders in it.
        mode: Of Lightning's ``CombinedLoader``: when an epoch ends, and what follows a loader that
            is exhausted before.
        max_batches: Batches of an epoch in one process, where the Trainer limits them.
        name: Of a data set, for the description.
    """

    structure: Any
    leaves: tuple[Any, ...]
    mode: str
    max_batches: float
    name: str

    @classmethod
    def of(cls, structure: Any, *, name: str, mode: str = DEFAULT_MODE) -> Loaders:
        """Take a loader, a collection of loaders, or a ``CombinedLoader`` apart.

        A structure without any ``DataLoader`` is one iterable of batches.
        """
        if hasattr(structure, "iterables") and hasattr(structure, "flattened"):
            mode = getattr(structure, "_mode", mode)
            structure = structure.iterables
        leaves = [structure]
        if isinstance(structure, dict | list | tuple):
            leaves = CombinedLoader(structure).flattened
            if not any(isinstance(leaf, DataLoader) for leaf in leaves):
                leaves = [structure]
        return cls(structure, tuple(leaves), mode, math.inf, name)

    @classmethod
    def of_training(cls, trainer: Trainer) -> Loaders:
        """The loaders of a running fit, as Lightning changed them."""
        structure = trainer.train_dataloader
        # the mode has no public name; without it, what Lightning gives to a plain collection
        combined = getattr(trainer.fit_loop, "_combined_loader", None)
        mode = getattr(combined, "_mode", DEFAULT_MODE)
        leaves = tuple(CombinedLoader(structure).flattened)
        return cls(structure, leaves, mode, trainer.num_training_batches, "the training set")

    @property
    def are_indexable(self) -> bool:
        """Whether all samples can be fetched by their position, and belong to steps."""
        return self.mode != "sequential" and all(map(is_indexable, self.leaves))

    def draw_on(self, other: Loaders) -> bool:
        """Whether these share a loader, or the data set of a stream, with others in use."""
        return any(
            mine is theirs or (_stream(mine) is not None and _stream(mine) is _stream(theirs))
            for mine in self.leaves
            for theirs in other.leaves
        )

    @property
    def contents(self) -> list[object]:
        """What fetching from the loaders may change."""
        names = ("dataset", "collate_fn", "generator", "sampler", "batch_sampler")
        found = [getattr(leaf, name, None) for leaf in self.leaves for name in names]
        return [*self.leaves, *found]

    def plan(
        self, *, num_samples: int | Literal["all"], batch_size: int | None, seed: int
    ) -> BatchPlan:
        """Decide which samples are in which frozen batch.

        Of one loader, samples are drawn. Of several, steps are drawn from a simulated epoch, so
        that each frozen batch combines what one step of training would combine: loaders that keep
        their order stay aligned, the others are shuffled each for itself. All steps count alike in
        training; here a step weighs as many samples as it takes from the loader that sets the
        length of the epoch, as a single loader's batch does.
        """
        if batch_size is not None and len(self.leaves) > 1:
            raise RefusedError(
                f"`batch_size` must be None for a collection of {len(self.leaves)} loaders, whose "
                f"batch sizes are part of their loss, got {batch_size}."
            )
        data = tuple(
            training_data(leaf, name=self.name, batch_size=batch_size, max_batches=self.max_batches)
            for leaf in self.leaves
        )
        if len(data) > 1:
            return _plan_steps(data, self, num_samples, seed)
        return plan_batches(
            data[0],
            num_samples=num_samples,
            batch_size=batch_size,
            seed=seed,
            build=self._build,
        )

    def _build(self, batches: list[Any]) -> Any:
        """Lightning's own way back from a list of batches to the user's structure."""
        if self.structure is self.leaves[0]:
            return batches[0]
        shell = CombinedLoader(self.structure)
        shell.flattened = batches
        return shell.iterables


def _stream(loader: object) -> object:
    dataset = getattr(loader, "dataset", None)
    return dataset if isinstance(dataset, IterableDataset) else None


def _plan_steps(
    data: tuple[TrainingData, ...], loaders: Loaders, num_samples: int | Literal["all"], seed: int
) -> BatchPlan:
    for each in data:
        refuse_empty(each)
    orders = [
        each.indices if each.is_ordered else shuffled(each.indices, seed + leaf)
        for leaf, each in enumerate(data)
    ]
    groups = [grouped(order, each.batch_size) for order, each in zip(orders, data, strict=True)]
    sign = -1 if loaders.mode == "min_size" else 1
    pace = max(range(len(data)), key=lambda k: (sign * data[k].num_batches, len(data[k].indices)))
    chosen: list[PlannedBatch] = []
    total, length = 0, data[pace].num_batches
    for step in shuffled(range(length), seed):
        parts = tuple(
            _group_at(step, each, data[leaf].num_batches, loaders.mode)
            for leaf, each in enumerate(groups)
        )
        weight = len(parts[pace] or ())
        chosen.append(PlannedBatch(len(chosen), parts, weight))
        total += weight
        if num_samples != "all" and total >= num_samples:
            break
    names = " and ".join(each.description for each in data)
    share = "all" if len(chosen) == length else f"{len(chosen):,} of"
    return BatchPlan(
        data=data,
        batches=tuple(chosen),
        build=loaders._build,
        description=(
            f"{share} {length:,} steps of an epoch over {len(data)} loaders ({loaders.mode}) "
            f"of {names}, weighted by their {total:,} samples of the one that sets its length "
            f"({data[pace].description})"
        ),
        population=total if len(chosen) == length else None,
    )


def _group_at(
    step: int, groups: list[tuple[int, ...]], num_batches: int, mode: str
) -> tuple[int, ...] | None:
    """A loader's part of a step: the next group, cycling, or None when it is exhausted."""
    if mode == "max_size" and step >= num_batches:
        return None
    return groups[step % num_batches % len(groups)]
