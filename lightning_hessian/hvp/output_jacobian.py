"""The derivatives of a step's outputs by the parameters, along vectors both ways."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_hessian.data import FrozenBatch
from lightning_hessian.hvp.output_cut import OutputCut
from lightning_hessian.loss import TrainingLoss, told_of_missing_derivatives


class CutBatch:
    """One batch's loss as a function of the outputs ``z``, and these as one of the parameters.

    Outputs that the loss does not depend on are left out. ``J v`` is the derivative by ``u`` of
    ``J^T u``, which is linear: all is by reverse mode, on a direct call of the step.

    Args:
        loss: Over the frozen batches.
        batch: One of them.
        by_marks: Whether the step marks its outputs.

    Attributes:
        value: The loss with the graph to the outputs' leaves, and past them; None where there is
            none.
        outputs: At which the step was cut.
        slopes: ``dl/dz`` of each, with their graph.
    """

    def __init__(self, loss: TrainingLoss, batch: FrozenBatch, *, by_marks: bool) -> None:
        self._tensors = loss.parameters.tensors
        mode = OutputCut(by_marks=by_marks)
        with mode:
            self.value = loss.evaluate(batch)
        self.has_marks = mode.has_marks
        found = mode.outputs if self.value is not None and self.value.requires_grad else []
        slopes: Sequence[Tensor | None] = []
        if found:
            slopes = torch.autograd.grad(
                self.value,  # type: ignore[arg-type]
                [output.leaf for output in found],
                create_graph=True,
                allow_unused=True,
            )
        pairs = [(z, slope) for z, slope in zip(found, slopes, strict=True) if slope is not None]
        self.outputs = [output for output, _ in pairs]
        self.slopes = [slope for _, slope in pairs]

    @property
    def values(self) -> list[Tensor]:
        """The outputs with the graph that leads to the parameters."""
        return [output.value for output in self.outputs]

    def direct(self) -> Sequence[Tensor | None]:
        """First derivatives of the loss past the outputs, by each parameter."""
        if self.value is None or not self.value.requires_grad:
            return [None] * len(self._tensors)
        return torch.autograd.grad(self.value, self._tensors, retain_graph=True, allow_unused=True)

    def transposed(self, images: Sequence[Tensor | None]) -> Sequence[Tensor | None]:
        """``J^T u`` in pieces of the parameters' shapes; None stands for zeros."""
        known = [(z, u) for z, u in zip(self.values, images, strict=True) if u is not None]
        if not known:
            return [None] * len(self._tensors)
        return torch.autograd.grad(
            [z for z, _ in known],
            self._tensors,
            [u for _, u in known],
            retain_graph=True,
            allow_unused=True,
        )

    def along(self, columns: Sequence[Sequence[Tensor]]) -> Sequence[list[Tensor]]:
        """``J v`` for each vector, given in pieces of the parameters' shapes.

        Raises:
            NoExactProductsError: If an operation's backward pass cannot be differentiated.
        """
        values = self.values
        images = [torch.zeros_like(value).requires_grad_() for value in values]
        pulled = torch.autograd.grad(
            values, self._tensors, images, create_graph=True, allow_unused=True
        )
        linear = [i for i, piece in enumerate(pulled) if piece is not None and piece.requires_grad]
        if not linear:
            return [[torch.zeros_like(value) for value in values] for _ in columns]
        with told_of_missing_derivatives():
            derivatives = [
                torch.autograd.grad(
                    [pulled[i] for i in linear],
                    images,
                    [column[i] for i in linear],
                    retain_graph=True,
                    allow_unused=True,
                )
                for column in columns
            ]
        return [
            [torch.zeros_like(z) if t is None else t for z, t in zip(values, tangents, strict=True)]
            for tangents in derivatives
        ]

    def bent(self, tangents: Sequence[Tensor]) -> Sequence[Tensor | None]:
        """``(d^2 l / dz^2) t`` of each output; None where it is zero."""
        curved = [i for i, slope in enumerate(self.slopes) if slope.requires_grad]
        if not curved:
            return [None] * len(self.outputs)
        with told_of_missing_derivatives():
            return torch.autograd.grad(
                [self.slopes[i] for i in curved],
                [output.leaf for output in self.outputs],
                [tangents[i] for i in curved],
                retain_graph=True,
                allow_unused=True,
            )
