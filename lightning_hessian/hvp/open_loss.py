"""The training loss of any module over given batches, without a Trainer around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lightning_hessian.data import FrozenBatch, FrozenBatches
from lightning_hessian.hvp.exact import ExactProducts
from lightning_hessian.loss import LossProducts, ParameterSelection, TrainingLoss
from lightning_hessian.processes import Processes
from lightning_hessian.records import Mode
from lightning_hessian.sandbox import Sandbox


@contextmanager
def open_loss(
    module: nn.Module,
    batch_loss: Callable[[Any, int], Tensor | None],
    batches: FrozenBatches | Sequence[Any],
    *,
    mode: Mode = "eval",
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    parameters: Sequence[str] | None = None,
    products: Callable[[TrainingLoss], LossProducts] = ExactProducts,
    processes: Processes | None = None,
) -> Iterator[TrainingLoss]:
    """Make a loss over batches a function of a module's parameters, with derivatives.

    The module is left as it was when the block ends, and the loss is of no use then.

    Args:
        module: Holds the parameters.
        batch_loss: From a batch and its number to a scalar with its graph, or None to skip it.
        batches: Frozen ones with their weights, or any batches, which then weigh the same and
            count as one sample each.
        mode: ``eval`` or ``train``.
        seed: Of the random numbers inside ``batch_loss``.
        dtype: Of the arithmetic; parameters and buffers are converted, batches are not.
        parameters: Name patterns of what to differentiate by; None for all trainable ones.
        products: How Hessian-vector products are made.
        processes: That share the batches.

    Yields:
        The loss at the present parameters.

    Example:
        >>> network = torch.nn.Linear(3, 1, bias=False)
        >>> inputs = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
        >>> with open_loss(network, lambda x, _: network(x).square().mean(), [inputs]) as loss:
        ...     loss.products.matmat(torch.eye(3)).diagonal()
        tensor([1., 4., 0.])
    """
    if not isinstance(batches, FrozenBatches):
        frozen = tuple(FrozenBatch(data, 1, index, 1) for index, data in enumerate(batches))
        batches = FrozenBatches(frozen, len(frozen), "given batches")
    with Sandbox(module, mode=mode, seed=seed, dtype=dtype) as sandbox:
        selection = ParameterSelection.of(module, parameters)
        yield TrainingLoss(
            batch_loss, batches, selection, sandbox, products=products, processes=processes
        )
