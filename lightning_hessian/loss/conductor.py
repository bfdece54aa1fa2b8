"""One process runs an estimator; the others compute their part of each thing that it asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from lightning_hessian.data import FrozenBatches, StepBatches
from lightning_hessian.errors import RefusedError
from lightning_hessian.linalg import check_block
from lightning_hessian.loss.gradient import Gradient
from lightning_hessian.loss.parameters import ParameterSelection
from lightning_hessian.loss.products import Products
from lightning_hessian.loss.trained import Trained
from lightning_hessian.loss.training_loss import TrainingLoss
from lightning_hessian.processes import Processes, on_all_or_none
from lightning_hessian.records import ProductQuality

T = TypeVar("T")

_Command = tuple[Callable[..., Any], tuple[tuple[torch.Size, torch.dtype], ...]]
"""What to compute from the loss, and the shapes and types of the tensors that it takes."""


class Conductor:
    """A training loss on the first process, computed by all.

    Each call is told to the other processes, which call the same method of theirs. Decisions are
    so taken once, and no other process holds the estimator's vectors. What is known to each process
    alike is read off this one's loss.

    Args:
        loss: This process's.
        processes: Of which this is the first.
    """

    def __init__(self, loss: TrainingLoss, processes: Processes) -> None:
        self._loss = loss
        self._processes = processes
        self.products: Products = _ConductedProducts(self, loss.products, _products)
        self.low_precision: Products | None = None
        if loss.low_precision is not None:
            self.low_precision = _ConductedProducts(self, loss.low_precision, _low_precision)

    @property
    def size(self) -> int:
        """Number of selected scalars, ``n``."""
        return self._loss.size

    @property
    def device(self) -> torch.device:
        """Of the first selected parameter."""
        return self._loss.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the derivatives."""
        return self._loss.dtype

    @property
    def name(self) -> str | None:
        """Which loss of the module it is."""
        return self._loss.name

    @property
    def sample(self) -> FrozenBatches:
        """This process's share; ``num_samples`` and ``description`` are of all."""
        return self._loss.sample

    @property
    def redrawn(self) -> tuple[TrainingLoss, ...]:
        """This process's share of the batches under other draws."""
        return self._loss.redrawn

    @property
    def step_batches(self) -> StepBatches | RefusedError | None:
        """This process's batches of the optimiser's steps, or why there are none."""
        return self._loss.step_batches

    @property
    def trained(self) -> Trained | None:
        """The optimisers that step the parameters, as this process has them."""
        return self._loss.trained

    @property
    def parameters(self) -> ParameterSelection:
        """What is differentiated by."""
        return self._loss.parameters

    def gradient(self) -> Gradient:
        """Loss and gradient over the batches of all processes."""
        return self.run_on_all(_gradient)

    def run_on_all(self, compute: Callable[..., T], *tensors: Tensor) -> T:
        """Let every process compute the same thing from its own loss at the same time.

        Args:
            compute: A function of a module, to be sent by its name, or a ``partial`` of one; takes
                a :class:`TrainingLoss` and the tensors, and gives the same on all processes.
            tensors: Known to this process; sent to the others.
        """
        kinds = tuple((tensor.shape, tensor.dtype) for tensor in tensors)
        command = self._processes.broadcast((compute, kinds))
        computed: T = _compute(self._loss, self._processes, command, tensors)
        return computed

    def dismiss(self) -> None:
        """Tell the other processes that nothing more will be asked."""
        self._processes.broadcast(None)


class _ConductedProducts:
    """Products made by all processes."""

    def __init__(
        self, conductor: Conductor, own: Products, compute: Callable[[TrainingLoss, Tensor], Tensor]
    ) -> None:
        self._conductor = conductor
        self._own = own
        self._compute = compute

    @property
    def size(self) -> int:
        return self._own.size

    @property
    def device(self) -> torch.device:
        return self._own.device

    @property
    def dtype(self) -> torch.dtype:
        return self._own.dtype

    @property
    def quality(self) -> ProductQuality:
        return self._own.quality

    @property
    def graph_bytes(self) -> int:
        """That this process holds."""
        return self._own.graph_bytes

    def matmat(self, vectors: Tensor) -> Tensor:
        check_block(vectors, self.size)
        return self._conductor.run_on_all(self._compute, vectors)

    def forget(self) -> None:
        self._own.forget()


def measure_on_first(
    loss: TrainingLoss, processes: Processes, measure: Callable[[TrainingLoss | Conductor], T]
) -> T:
    """Measure once, by the work of all processes, which each call this at the same time.

    Args:
        loss: This process's, inside its sandbox.
        processes: All of them.
        measure: Run on the first process alone; takes its loss, or a stand-in for it.

    Returns:
        What it returned, on all processes; or raises what it raised, on all.
    """
    if processes.size == 1:
        return measure(loss)

    def part() -> T | None:
        if processes.rank != 0:
            _answer_first(loss, processes)
            return None
        conductor = Conductor(loss, processes)
        try:
            return measure(conductor)
        finally:
            conductor.dismiss()

    measured: T = processes.broadcast(on_all_or_none(processes, part))  # type: ignore[assignment]
    return measured


def _answer_first(loss: TrainingLoss, processes: Processes) -> None:
    """Compute this process's part of everything that the first one's conductor is asked for."""
    command: _Command | None = None
    while (command := processes.broadcast(command)) is not None:
        try:
            _compute(loss, processes, command, ())
        except Exception:
            # agreed on, so raised on the first process too, which decides what follows
            continue


def _compute(
    loss: TrainingLoss, processes: Processes, command: _Command, tensors: tuple[Tensor, ...]
) -> Any:
    """Compute on this process; the first one gives the tensors."""
    compute, kinds = command

    def mine(index: int) -> Tensor:
        if tensors:
            return tensors[index].clone(memory_format=torch.contiguous_format)
        shape, dtype = kinds[index]
        return torch.zeros(shape, dtype=dtype, device=loss.device)

    received = [
        processes.sum(on_all_or_none(processes, lambda index=index: mine(index)))  # type: ignore[misc]
        for index in range(len(kinds))
    ]
    return compute(loss, *received)


def _gradient(loss: TrainingLoss) -> Gradient:
    return loss.gradient()


def _products(loss: TrainingLoss, vectors: Tensor) -> Tensor:
    return loss.products.matmat(vectors)


def _low_precision(loss: TrainingLoss, vectors: Tensor) -> Tensor:
    assert loss.low_precision is not None
    return loss.low_precision.matmat(vectors)
