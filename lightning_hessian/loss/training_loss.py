"""The training loss over the frozen batches as a function of the parameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from lightning_hessian.data import FrozenBatch, FrozenBatches, StepBatches
from lightning_hessian.errors import NonFiniteError, RefusedError
from lightning_hessian.loss.gradient import Gradient, refuse_unusable
from lightning_hessian.loss.parameters import ParameterSelection
from lightning_hessian.loss.products import LossProducts
from lightning_hessian.loss.trained import Trained
from lightning_hessian.processes import Processes, SingleProcess, on_all_or_none
from lightning_hessian.sandbox import Sandbox

T = TypeVar("T")

BatchLoss = Callable[[Any, int], Tensor | None]
"""The loss of one frozen batch with its graph, or None for a batch that training would skip."""


class TrainingLoss:
    """``L(w) = sum_b (n_b / N) L_b(w)`` over the frozen batches ``b`` of weight ``n_b``.

    For a loss that is a mean over samples, the true batch sizes as weights make ``L`` independent
    of how the samples are batched. A batch whose step returns None has no weight. Each evaluation
    starts from the same state. Derivatives are by the module's real parameters; sums over batches
    are in float64.

    Several processes share the batches. Each method that sums over batches is then called on all of
    them at the same time, gives the same on each, and raises on all what fails on one.

    Args:
        batch_loss: The loss of one batch.
        sample: The frozen batches, or this process's share of them.
        parameters: What to differentiate by.
        sandbox: Entered by the caller; reset before each evaluation.
        products: Makes the Hessian of this loss, such as :class:`ExactProducts`.
        low_precision: Makes a faster one of fewer digits, where that is asked for.
        poll: Called before each evaluation; raises if the measurement is to be abandoned.
        processes: That share the batches, equally many each.
        name: Which loss of the module it is; None for that of its ``training_step``.

    Attributes:
        skipped: Positions of batches that training would skip; known after a gradient.
        num_evaluated: Samples that the step was called on so far, each time counted.
        held_out: The same loss over samples that training does not see, if there are any.
        trained: The optimisers that step the parameters; None where there is no fit.
        redrawn: The same loss over some of the batches, under several other draws of the step's
            random numbers; empty where it draws none that matter.
        in_steps: The same loss over batches as the optimiser's steps take them, if that was asked
            for and can be.
        step_batches: Those batches, or why there are none; None where it was not asked for.
    """

    def __init__(
        self,
        batch_loss: BatchLoss,
        sample: FrozenBatches,
        parameters: ParameterSelection,
        sandbox: Sandbox,
        *,
        products: Callable[[TrainingLoss], LossProducts],
        low_precision: Callable[[TrainingLoss], LossProducts] | None = None,
        poll: Callable[[], None] | None = None,
        processes: Processes | None = None,
        name: str | None = None,
    ) -> None:
        self.name = name
        self.processes = processes or SingleProcess()
        self.sample = sample
        self.parameters = parameters
        self.poll = poll or _never_abandon
        self.held_out: TrainingLoss | None = None
        self.trained: Trained | None = None
        self.redrawn: tuple[TrainingLoss, ...] = ()
        self.in_steps: TrainingLoss | None = None
        self.step_batches: StepBatches | RefusedError | None = None
        self.skipped: set[int] = set()
        self.num_evaluated = 0
        self._batch_loss = batch_loss
        self._sandbox = sandbox
        self._total_weight = 0.0
        self.products = products(self)
        self.low_precision = None if low_precision is None else low_precision(self)

    @property
    def size(self) -> int:
        """Number of selected scalars, ``n``."""
        return self.parameters.size

    @property
    def device(self) -> torch.device:
        """Of the first selected parameter."""
        return self.parameters.tensors[0].device

    @property
    def dtype(self) -> torch.dtype:
        """Of the derivatives."""
        return self._sandbox.dtype

    def compare_state(self) -> bool:
        """Look at all state: True where the last evaluation has left it as it was."""
        return self._sandbox.is_unchanged()

    def evaluate(self, batch: FrozenBatch, *, seed: int | None = None) -> Tensor | None:
        """Loss of any batch with its graph, from the state on entering the sandbox.

        Args:
            batch: To be evaluated.
            seed: Of the step's random numbers; the batch's own when None.

        Returns:
            A scalar, or None for a batch that training would skip.

        Raises:
            RefusedError: If the step returns a loss of more than one element.
            NonFiniteError: If the loss is NaN or infinite.
        """
        self.poll()
        self.num_evaluated += batch.num_samples
        self._sandbox.reset(batch.seed if seed is None else seed)
        loss = self._batch_loss(batch.data, batch.index)
        if loss is None:
            return None
        if loss.numel() != 1:
            raise RefusedError(
                f"the training loss must be a single number, got shape {tuple(loss.shape)}. "
                "Reduce it by a mean in `training_step`."
            )
        value = float(loss.detach())
        if not math.isfinite(value):
            raise NonFiniteError(
                f"the training loss must be finite, got {value} on frozen batch {batch.index}. "
                "At such a point there is no Hessian; look for the first step with such a loss."
            )
        return loss.reshape(())

    def gradient(self) -> Gradient:
        """Loss and gradient over all frozen batches; costs one gradient unit.

        Raises:
            RefusedError: If every batch is skipped, or no parameter gets a gradient.
            NonFiniteError: If the loss or the gradient is not finite.
        """
        end = self.size
        length = end + 2 + len(self.parameters.names)
        payload = self.products.sum_over_batches(length, self._add_gradient)
        total, total_weight = float(payload[end]), float(payload[end + 1])
        used = (payload[end + 2 :] > 0).tolist()
        refuse_unusable(
            total_weight, used, self.parameters.names, num_batches=len(self.sample.batches)
        )
        vector = payload[:end] / total_weight
        if not bool(vector.isfinite().all()):
            raise NonFiniteError(
                "the gradient of the training loss must be finite, but it holds NaN or infinity "
                "while the loss is finite. Look for a square root or a logarithm at zero."
            )
        self._total_weight = total_weight
        names = zip(self.parameters.names, used, strict=True)
        return Gradient(
            loss=total / total_weight,
            vector=vector,
            unused=tuple(name for name, is_used in names if not is_used),
        )

    def weigh(self) -> float:
        """Weight of the batches that are not skipped; takes a gradient if there was none yet."""
        if self._total_weight == 0:
            self.gradient()
        return self._total_weight

    def columns_of(self, vectors: Tensor) -> list[list[Tensor]]:
        """Vectors ``(n, b)`` in pieces of the parameters' shapes, on all processes or on none."""
        return on_all_or_none(
            self.processes,
            lambda: [self.parameters.split(v.contiguous()) for v in vectors.unbind(dim=1)],
        )

    def sum_over_batches(
        self,
        length: int,
        add: Callable[[Tensor, int], None],
        *,
        after_each: Callable[[int], None] | None = None,
    ) -> Tensor:
        """Sum a vector ``(length,)`` in float64 over the frozen batches of all processes.

        The processes agree after each batch: a step may hold exchanges of its own, in which a
        process would wait for ever for one that has failed before.

        Args:
            length: Of the vector.
            add: Adds to it the contribution of the batch at a position.
            after_each: Called with that position, on all processes alike.
        """
        total = on_all_or_none(
            self.processes,
            lambda: torch.zeros(length, dtype=torch.float64, device=self.device),
        )
        for index in range(len(self.sample.batches)):
            on_all_or_none(self.processes, partial(add, total, index))
            if after_each is not None:
                after_each(index)
        return self.processes.sum(total)

    @contextmanager
    def displaced(self, direction: Tensor, step: float) -> Iterator[None]:
        """Be at ``w + step * direction`` inside; the parameters' bits are put back at the end."""
        self._forget_graphs()
        deltas = [step * piece for piece in self.parameters.split(direction.contiguous())]
        try:
            with self._sandbox.displaced(self.parameters.tensors, deltas):
                yield
        finally:
            self._forget_graphs()

    def run_on_all(self, compute: Callable[..., T], *tensors: Tensor) -> T:
        """Compute something from this loss: what a conductor lets all processes do at once."""
        return compute(self, *tensors)

    def _forget_graphs(self) -> None:
        """What products have kept is of other parameters."""
        self.products.forget()
        if self.low_precision is not None:
            self.low_precision.forget()

    def _add_gradient(self, payload: Tensor, index: int) -> None:
        """Add a batch's weighted gradient, weighted loss, weight, and which parameters are used."""
        batch = self.sample.batches[index]
        loss = self.evaluate(batch)
        if loss is None:
            self.skipped.add(index)
            return
        end = self.size
        payload[end] += batch.weight * loss.detach().double()
        payload[end + 1] += batch.weight
        if loss.requires_grad:
            pieces = self.products.differentiate(index, batch.weight * loss)
            self.parameters.add_flat(payload[:end], pieces, 1.0)
            payload[end + 2 :] += torch.tensor([p is not None for p in pieces]).to(payload)


def _never_abandon() -> None:
    """Stand for a poll where nothing may end the measurement."""
