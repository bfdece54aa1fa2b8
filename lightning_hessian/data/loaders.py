"""One loader or a collection of loaders, and the steps of an epoch over them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from lightning.pytorch import Trainer
from lightning.pytorch.utilities.combined_loader import CombinedLoader
from torch.utils.data import DataLoader, IterableDataset

from lightning_hessian.data.as_drawn import plan_draws, plan_groups
from lightning_hessian.data.drawing import Drawing
from lightning_hessian.data.plan import BatchPlan, plan_batches, plan_steps
from lightning_hessian.data.step_batches import StepPlan, plan_of_steps
from lightning_hessian.data.training_data import is_indexable, must_be_drawn, training_data
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

    @property
    def undrawn(self) -> list[str]:
        """The kinds of samplers of which an epoch must be drawn to know what they draw."""
        found = filter(must_be_drawn, self.leaves)
        return [str(Drawing.of(leaf).preference) for leaf in found]

    @property
    def have_own_batches(self) -> bool:
        """Whether samples are put into batches by other rules than so many in a row."""
        return any(Drawing.of(leaf).has_own_batches for leaf in self.leaves)

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
        self,
        *,
        num_samples: int | Literal["all"],
        batch_size: int | None,
        seed: int,
        as_drawn: bool = False,
        weighs: bool = False,
    ) -> BatchPlan:
        """Decide which samples are in which frozen batch.

        Of one loader, samples are drawn; of several, steps. ``num_samples`` at least, of the loader
        that sets the length of the epoch; ``batch_size`` only for a single loader. ``as_drawn``
        takes samples as often as the samplers do, which may be iterated for it; with ``weighs`` all
        samples come once, by their weights, where that can be.
        """
        if batch_size is not None and len(self.leaves) > 1:
            raise RefusedError(
                f"`batch_size` must be None for a collection of {len(self.leaves)} loaders, whose "
                f"batch sizes are part of their loss, got {batch_size}."
            )
        data = tuple(
            training_data(
                leaf,
                name=self.name,
                batch_size=batch_size,
                max_batches=self.max_batches,
                as_drawn=as_drawn,
            )
            for leaf in self.leaves
        )
        if len(data) > 1:
            return plan_steps(
                data, num_samples=num_samples, mode=self.mode, seed=seed, build=self._build
            )
        plan: Callable[..., BatchPlan] = plan_batches if data[0].groups is None else plan_groups
        if data[0].weights is not None:
            plan = partial(plan_draws, weighs=weighs)
        return plan(
            data[0], num_samples=num_samples, batch_size=batch_size, seed=seed, build=self._build
        )

    def plan_of_steps(
        self, *, num_samples: int | Literal["all"], per_step: int, seed: int, as_drawn: bool
    ) -> StepPlan:
        """Decide which samples are in which batch of which step, for a single loader.

        Args:
            num_samples: For as many whole steps as they make.
            per_step: Batches to a step.
            seed: Of the draw.
            as_drawn: As often as the sampler draws them; without it, each must count alike.

        Raises:
            RefusedError: If there are several loaders, a sampler prefers some samples, or there are
                no steps of one size.
        """
        if len(self.leaves) > 1:
            raise RefusedError(
                f"a step takes batches of {len(self.leaves)} loaders, which have no one size. Only "
                "a single loader has."
            )
        preference = Drawing.of(self.leaves[0]).preference
        if preference is not None and not as_drawn:
            raise RefusedError(
                f"the batches of training are as its {preference} draws them, and the samples are "
                "taken alike. Give `Loss(sampling='as_drawn')`."
            )
        data = training_data(
            self.leaves[0], name=self.name, max_batches=self.max_batches, as_drawn=as_drawn
        )
        return plan_of_steps(
            data, num_samples=num_samples, per_step=per_step, seed=seed, build=self._build
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
