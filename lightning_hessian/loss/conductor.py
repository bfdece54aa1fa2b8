"""One process runs an estimator; the others compute their part of each thing that it asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from lightning_hessian.data import FrozenBatches
from lightning_hessian.loss.gradient import Gradient
from lightning_hessian.loss.kept_graphs import KeptGraphs
from lightning_hessian.loss.parameters import ParameterSelection
from lightning_hessian.loss.training_loss import TrainingLoss
from lightning_hessian.processes import Processes, on_all_or_none
from lightning_hessian.records import ProductQuality

T = TypeVar("T")

_Command = tuple[Callable[..., Any], tuple[tuple[torch.Size, torch.dtype], ...]]
"""What to compute from the loss, and the shapes and types of the tensors that it takes."""


class Conductor:
    """A training loss on the first process, computed by all.

    Each call is told to the other processes, which call the same method of theirs. Decisions are
    so taken once, and no other process holds the estimator's vectors.

    Args:
        loss: This process's.
        processes: Of which this is the first.
        is_rough: Stands in for the loss's faster products of fewer digits.
    """

    def __init__(self, loss: TrainingLoss, processes: Processes, *, is_rough: bool = False) -> None:
        self._loss = loss
        self._processes = processes
        self._is_rough = is_rough

    @property
    def rough(self) -> Conductor | None:
        """The same loss with faster products of fewer digits, if it was asked for."""
        return Conductor(self._loss, self._processes, is_rough=True) if self._loss.rough else None

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
    def batches(self) -> FrozenBatches:
        """This process's share; ``num_samples`` and ``description`` are of all."""
        return self._loss.batches

    @property
    def parameters(self) -> ParameterSelection:
        """What is differentiated by."""
        return self._loss.parameters

    @property
    def graphs(self) -> KeptGraphs:
        """Those that this process keeps."""
        return self._loss.graphs

    @property
    def products(self) -> ProductQuality:
        """How :meth:`hessian_products` is made; known to each process alike."""
        return self._loss.products

    def gradient(self) -> Gradient:
        """Loss and gradient, as :meth:`TrainingLoss.gradient`.

        Returns:
            Over the batches of all processes.
        """
        return self.run_on_all(_gradient)

    def hessian_products(self, vectors: Tensor) -> Tensor:
        """Multiply by the Hessian, as :meth:`TrainingLoss.hessian_products`.

        Args:
            vectors: ``(n, b)``.

        Returns:
            ``(n, b)``, over the batches of all processes.
        """
        return self.run_on_all(_rough_products if self._is_rough else _hessian_products, vectors)

    def run_on_all(self, compute: Callable[..., T], *tensors: Tensor) -> T:
        """Let every process compute the same thing from its own loss at the same time.

        Args:
            compute: A function of a module, to be sent by its name, or a ``partial`` of one; takes
                a :class:`TrainingLoss` and the tensors, and gives the same on all processes.
            tensors: Known to this process; sent to the others.

        Returns:
            What it gives.
        """
        kinds = tuple((tensor.shape, tensor.dtype) for tensor in tensors)
        command = self._processes.broadcast((compute, kinds))
        computed: T = _run_on_all(self._loss, self._processes, command, tensors)
        return computed

    def dismiss(self) -> None:
        """Tell the other processes that nothing more will be asked."""
        self._processes.broadcast(None)


def measure_on_first(
    loss: TrainingLoss, processes: Processes, measure: Callable[[TrainingLoss | Conductor], T]
) -> T:
    """Measure once, by the work of all processes.

    Args:
        loss: This process's, inside its sandbox.
        processes: Each calls this at the same time.
        measure: Run on the first process alone; takes its loss, or a stand-in for it.

    Returns:
        What it returned, on all processes; or raises what it raised, on all.
    """
    if processes.size == 1:
        return measure(loss)

    def part() -> T | None:
        if processes.rank != 0:
            answer_first(loss, processes)
            return None
        conductor = Conductor(loss, processes)
        try:
            return measure(conductor)
        finally:
            conductor.dismiss()

    measured: T = processes.broadcast(on_all_or_none(processes, part))  # type: ignore[assignment]
    return measured


def answer_first(loss: TrainingLoss, processes: Processes) -> None:
    """Compute this process's part of everything that the first one's conductor is asked for.

    Args:
        loss: This process's.
        processes: Of which this is not the first.
    """
    command: _Command | None = None
    while (command := processes.broadcast(command)) is not None:
        try:
            _run_on_all(loss, processes, command, ())
        except Exception:
            # agreed on, so raised on the first process too, which decides what follows
            continue


def _run_on_all(
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


def _hessian_products(loss: TrainingLoss, vectors: Tensor) -> Tensor:
    return loss.hessian_products(vectors)


def _rough_products(loss: TrainingLoss, vectors: Tensor) -> Tensor:
    assert loss.rough is not None
    return loss.rough.hessian_products(vectors)
