"""Samples with given Hessians as a loss over frozen batches, with no module around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from lightning_hessian.data import FrozenBatch, FrozenBatches
from lightning_hessian.processes import SingleProcess
from lightning_hessian.records import EXACT, ProductQuality


class DenseSamples:
    """A training loss and its products, from ``(N, n, n)`` Hessians in given batches."""

    name = None
    skipped: frozenset[int] = frozenset()
    redrawn = ()
    device = torch.device("cpu")

    def __init__(
        self, hessians: Tensor, groups: Sequence[Tensor], quality: ProductQuality = EXACT
    ) -> None:
        self.means = [hessians[group].mean(dim=0) for group in groups]
        self.size, self.dtype, self.quality = hessians.shape[1], hessians.dtype, quality
        self.processes = SingleProcess()
        self.parameters = self.products = self
        sizes = [len(group) for group in groups]
        frozen = [FrozenBatch(None, float(size), i, size) for i, size in enumerate(sizes)]
        self.sample = FrozenBatches(tuple(frozen), sum(sizes), "dense", are_drawn=True)

    @classmethod
    def dealt(cls, hessians: Tensor, order: Tensor, num_batches: int) -> DenseSamples:
        """The samples at some positions, in their order, in batches as equal as can be."""
        return cls(hessians, order.tensor_split(num_batches))

    @property
    def mean(self) -> Tensor:
        """``(n, n)`` the Hessian of all samples."""
        weighted = [b.weight * m for b, m in zip(self.sample.batches, self.means, strict=True)]
        return torch.stack(weighted).sum(dim=0) / self.weigh()

    def weigh(self) -> float:
        return float(sum(batch.weight for batch in self.sample.batches))

    def split(self, vector: Tensor) -> list[Tensor]:
        return [vector]

    def add_flat(self, out: Tensor, pieces: Any, weight: float) -> None:
        out.add_(pieces[0], alpha=weight)

    def run_on_all(self, compute: Callable[..., Any], *tensors: Tensor) -> Any:
        return compute(self, *tensors)

    def columns_of(self, vectors: Tensor) -> list[list[Tensor]]:
        return [[v] for v in vectors.unbind(dim=1)]

    def check_graphs(self, column: Sequence[Tensor]) -> None:
        """Nothing is kept that could be wrong."""

    def sum_over_batches(self, length: int, add: Callable[[Tensor, int], None]) -> Tensor:
        total = torch.zeros(length, dtype=torch.float64)
        for index in range(len(self.means)):
            add(total, index)
        return total

    def of_batch(self, index: int, columns: list[list[Tensor]]) -> Iterator[tuple[Tensor]]:
        weight = self.sample.batches[index].weight
        return iter([(weight * (self.means[index] @ column[0]),) for column in columns])


def random_hessians(count: int, size: int, *, seed: int = 0, spread: float = 1.0) -> Tensor:
    """``(count, size, size)`` float64: well-separated eigenvalues on average, and some scatter."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, size, size, generator=generator, dtype=torch.float64)
    centre = torch.diag(torch.linspace(-1, 4, size, dtype=torch.float64) ** 2)
    return centre + spread * (noise + noise.mT) / 2


def subsets(population: int, count: int) -> list[Tensor]:
    """Positions of every subset of a size."""
    return [torch.tensor(chosen) for chosen in combinations(range(population), count)]
