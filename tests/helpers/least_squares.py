"""A linear regression, whose batches have gradients and Hessians by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_hessian.data import FrozenBatch, FrozenBatches
from lightning_hessian.hvp import open_loss
from lightning_hessian.loss import TrainingLoss

SGD = partial(torch.optim.SGD, lr=0.01)


@dataclass(frozen=True, eq=False)
class LeastSquares:
    """``l_i(w) = (x_i . w - y_i)^2 / 2``.

    Attributes:
        inputs: ``(N, d)`` ``x_i``.
        targets: ``(N,)`` ``y_i``.
    """

    inputs: Tensor
    targets: Tensor

    @classmethod
    def drawn(cls, count: int, scales: Sequence[float], *, seed: int, noise: float) -> LeastSquares:
        """Normal inputs, of another scale in each direction, with targets of some weights."""
        generator = torch.Generator().manual_seed(seed)
        options = {"dtype": torch.float64, "generator": generator}
        inputs = torch.randn(count, len(scales), **options) * torch.tensor(scales)
        weights = torch.randn(len(scales), **options)
        return cls(inputs, inputs @ weights + noise * torch.randn(count, **options))

    def derivatives(self, rows: Sequence[int], weights: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient ``(d,)`` and Hessian ``(d, d)`` of the mean over some samples."""
        inputs, targets = self.inputs[list(rows)], self.targets[list(rows)]
        residuals = inputs @ weights - targets
        return inputs.T @ residuals / len(rows), inputs.T @ inputs / len(rows)

    def along_gradients(
        self, batches: Sequence[Sequence[int]], weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        """``g.Hg`` and ``g.g`` of each batch."""
        found = [self.derivatives(rows, weights) for rows in batches]
        forms = [gradient @ hessian @ gradient for gradient, hessian in found]
        return torch.stack(forms), torch.stack([gradient @ gradient for gradient, _ in found])

    @contextmanager
    def opened(self, batches: Sequence[Sequence[int]], weights: Tensor) -> Iterator[TrainingLoss]:
        """The package's loss over these batches, in float64."""
        line = nn.Linear(self.inputs.shape[1], 1, bias=False, dtype=torch.float64)
        line.weight.data = weights[None].clone()

        def loss_of(rows: list[int], _: int) -> Tensor:
            residuals = line(self.inputs[rows])[:, 0] - self.targets[rows]
            return residuals.square().mean() / 2

        frozen = tuple(
            FrozenBatch(list(rows), len(rows), index, len(rows))
            for index, rows in enumerate(batches)
        )
        samples = FrozenBatches(frozen, sum(map(len, batches)), "given batches")
        with open_loss(line, loss_of, samples, dtype=torch.float64) as loss:
            yield loss


class Regression(pl.LightningModule):
    """The problem as a module, stepped by the optimiser that a test wants.

    Args:
        problem: Its samples are to be given by :meth:`loader`.
        optimizer: From parameters.
    """

    def __init__(
        self,
        problem: LeastSquares,
        optimizer: Callable[[Any], torch.optim.Optimizer | None] = SGD,
    ) -> None:
        super().__init__()
        self.problem, self.optimizer = problem, optimizer
        self.line = nn.Linear(problem.inputs.shape[1], 1, bias=False, dtype=torch.float64)
        self.line.weight.data.fill_(0.5)

    @property
    def weights(self) -> Tensor:
        """``(d,)``."""
        return self.line.weight.detach()[0]

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        inputs, targets = batch
        return (self.line(inputs)[:, 0] - targets).square().mean() / 2

    def configure_optimizers(self) -> torch.optim.Optimizer | None:
        return self.optimizer(self.parameters())

    def loader(self, batch_size: int, **options: Any) -> DataLoader[Any]:
        """Of all samples."""
        samples = TensorDataset(self.problem.inputs, self.problem.targets)
        return DataLoader(samples, batch_size=batch_size, **options)
