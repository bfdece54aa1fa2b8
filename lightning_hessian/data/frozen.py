"""A fixed, reproducible sample of the training data, collated once and kept on the CPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_DRAW = 1_000_003


@dataclass(frozen=True, eq=False)
class FrozenBatch:
    """One batch of the frozen sample.

    Attributes:
        data: What the collate function made, or what training saw.
        weight: In the mean over batches: its number of samples, unless the user weighs otherwise.
        index: Its number in the frozen sample, and the step's ``batch_idx``.
        num_samples: That it holds, of the data set that sets the pace.
        draw: Which draw of its random numbers.
    """

    data: Any
    weight: float
    index: int
    num_samples: int
    draw: int = 0

    @property
    def seed(self) -> int:
        """Of the step's random numbers, another for each batch and draw."""
        return self.index + _DRAW * self.draw

    @property
    def is_repeat(self) -> bool:
        """Whether it stands in for a batch that this process lacks, and counts for nothing."""
        return self.weight == 0


@dataclass(frozen=True, eq=False)
class FrozenBatches:
    """The frozen sample, or one process's share of it.

    Attributes:
        batches: In the order of evaluation.
        num_samples: In these batches.
        description: What it is a sample of, in words.
        are_transferred: Whether the batches went through the transfer hooks already.
        are_drawn: Whether samples were put into batches at random.
        population: Samples that these were drawn from, themselves included; None if not known, or
            where they may be drawn again.
        most: Samples up to which more can be drawn; None if not known.
        may_be_weighed: Whether all samples could be had at their weights, in place of draws.
    """

    batches: tuple[FrozenBatch, ...]
    num_samples: int
    description: str
    are_transferred: bool = False
    are_drawn: bool = False
    population: int | None = None
    most: int | None = None
    may_be_weighed: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether these are all samples that there are."""
        return self.population is not None and self.num_samples >= self.population
