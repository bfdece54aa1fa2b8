"""A training loss in the shape in which PyHessian takes a model, a criterion and a data loader."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterator
from types import FunctionType, SimpleNamespace
from typing import Any

import torch
from pyhessian.hessian import hessian  # type: ignore[import-untyped]
from torch import Tensor, nn

from lightning_hessian.errors import NonFiniteError, RefusedError
from lightning_hessian.loss import TrainingLoss, told_of_missing_derivatives
from lightning_hessian.sandbox import global_generator_state


class BatchLoss:
    """The loss of one frozen batch; stands for its inputs, targets and outputs, too.

    Args:
        value: With its graph.
        weight: Of the batch.
        parameters: To differentiate by.
    """

    def __init__(self, value: Tensor, weight: float, parameters: tuple[nn.Parameter, ...]) -> None:
        self._value = value
        self._weight = weight
        self._parameters = parameters

    def size(self, dim: int) -> float:  # noqa: ARG002
        """The weight, where PyHessian asks for the number of samples."""
        return self._weight

    def to(self, device: torch.device) -> BatchLoss:  # noqa: ARG002
        """The loss itself: the step has put it where it belongs."""
        return self

    def backward(self, *, create_graph: bool) -> None:
        """Leave in each parameter's ``.grad`` its derivative, as ``Tensor.backward`` does.

        Not by it: that adds to what is there, runs hooks of the parameters, and reaches those that
        are not selected. ``0 * p`` is added, as PyHessian's product wants every derivative to
        depend on every parameter: those of unused and of linear ones do not.
        """
        pieces: tuple[Tensor | None, ...] = (None,) * len(self._parameters)
        if self._value.requires_grad:
            pieces = torch.autograd.grad(
                self._value, self._parameters, create_graph=create_graph, allow_unused=True
            )
        for parameter, piece in zip(self._parameters, pieces, strict=True):
            nothing = 0 * parameter
            parameter.grad = nothing if piece is None else nothing + piece.to_dense()


class AdaptedLoss:
    """What PyHessian takes for a model, and for a data loader.

    The model of a batch is the batch's loss. Nothing is computed by it: the loss is evaluated when
    the loader gets to the batch, as only then a batch that training would skip is known.

    Args:
        loss: Inside its sandbox.
    """

    def __init__(self, loss: TrainingLoss) -> None:
        self._loss = loss

    def eval(self) -> AdaptedLoss:
        """Nothing: the sandbox has set the mode."""
        return self

    def parameters(self) -> Iterator[nn.Parameter]:
        """The selected ones, in the selection's order."""
        return iter(self._loss.parameters.tensors)

    def zero_grad(self) -> None:
        """Let go of all derivatives and their graphs."""
        for parameter in self._loss.parameters.tensors:
            parameter.grad = None

    def __call__(self, batch: BatchLoss) -> BatchLoss:
        """The batch's loss, in place of a network's outputs."""
        return batch

    def __iter__(self) -> Iterator[tuple[BatchLoss, BatchLoss]]:
        """Evaluate one frozen batch after the other: its loss, as its inputs and its targets."""
        total_weight = 0.0
        for batch in self._loss.sample.batches:
            value = self._loss.evaluate(batch)
            if value is not None:
                total_weight += batch.weight
                adapted = BatchLoss(value, batch.weight, self._loss.parameters.tensors)
                yield adapted, adapted
        if total_weight == 0:
            raise RefusedError(
                f"`training_step` returned None for each of the {len(self._loss.sample.batches)} "
                "frozen batches, so there is no loss to measure. Raise `num_samples`, or return a "
                "loss."
            )


def _eig(matrix: Tensor, eigenvectors: bool) -> tuple[Tensor, Tensor]:  # noqa: ARG001
    """``torch.eig``, which torch has no more, of a symmetric tridiagonal matrix."""
    # `eigh`, as eigenvectors of equal eigenvalues are then orthogonal; float64, so that the
    # density's weights sum to one as closely as those of any other
    values, vectors = torch.linalg.eigh(matrix.double())
    return torch.stack([values, torch.zeros_like(values)], dim=1), vectors


def _on_current_torch(function: Any) -> FunctionType:
    """The same code with a ``torch`` that has ``eig``; the package and torch stay untouched."""
    module = importlib.import_module(function.__module__)
    names = vars(module) | {"torch": SimpleNamespace(**(vars(torch) | {"eig": _eig}))}
    return FunctionType(function.__code__, names, function.__name__, function.__defaults__)


class AdaptedHessian(hessian):  # type: ignore[misc]
    """PyHessian's class over a training loss: it computes, this counts, and keeps its probes.

    Args:
        loss: Inside its sandbox, of one process.
        on_products: Told of each product.

    Attributes:
        num_hvps: Products so far.
    """

    density = _on_current_torch(hessian.density)

    def __init__(self, loss: TrainingLoss, on_products: Callable[[int], None] | None) -> None:
        adapted = AdaptedLoss(loss)
        adapted.zero_grad()  # of those that the user has there, copies would be kept
        super().__init__(adapted, lambda outputs, _: outputs, dataloader=adapted, cuda=False)
        # it leaves out those that do not require a gradient while the step does not run
        self.params = list(adapted.parameters())
        self.device = loss.device
        self.num_hvps = 0
        self._on_products = on_products

    def dataloader_hv_product(self, v: list[Tensor]) -> tuple[float, list[Tensor]]:
        """PyHessian's product, ``v.Hv`` and ``Hv``, which leaves the global generators alone.

        A step is evaluated with the generators seeded for its batch. PyHessian draws its probes
        from the same ones: after a product it would draw the same probe each time.
        """
        put_back = global_generator_state()
        try:
            with told_of_missing_derivatives():
                value, products = super().dataloader_hv_product(v)
        finally:
            put_back()
        if not math.isfinite(value):
            raise NonFiniteError(
                "a Hessian-vector product holds NaN or infinity, while the loss is finite. Look "
                "for a square root, a norm or a power whose curvature is infinite."
            )
        self.num_hvps += 1
        if self._on_products is not None:
            self._on_products(1)
        return value, products
