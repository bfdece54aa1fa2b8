"""A training loss with weight decay as part of it, where that is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from torch.optim import AdamW, Optimizer

from lightning_hessian.errors import NonFiniteError, RefusedError
from lightning_hessian.loss import Conductor, Gradient, TrainingLoss
from lightning_hessian.options import WeightDecay
from lightning_hessian.processes import enter_on_all


class DecayedLoss:
    """``L(w) + w.W w / 2`` with ``W`` a diagonal: a symmetric operator, ``H + W``, too.

    Args:
        loss: At the present parameters ``w``.
        weight_decay: ``none``; ``optimizer`` for what the fit's optimiser adds to its gradients; or
            a number for all parameters.

    Attributes:
        loss: As given.
        weights: ``(n,)`` float64, ``w``.
        description: What is in it of weight decay, in words.

    Raises:
        RefusedError: If the optimiser is asked for and is unknown, or not one for all parameters.
    """

    def __init__(self, loss: TrainingLoss | Conductor, weight_decay: WeightDecay = "none") -> None:
        self.loss = loss
        self.weights = torch.zeros(loss.size, dtype=torch.float64, device=loss.device)
        parameters = loss.parameters
        parameters.add_flat(self.weights, [p.detach() for p in parameters.tensors], 1.0)
        self._decay: Tensor | None = None
        self.description = "none"
        if weight_decay == "optimizer":
            if loss.trained is None:
                raise RefusedError(
                    "`weight_decay='optimizer'` needs the optimiser of a fit. Give a number."
                )
            try:
                optimizer, tensors = loss.trained.of(parameters)
            except RefusedError as error:
                raise RefusedError(
                    f"`weight_decay='optimizer'` cannot be read off, as {error} Give a number, or "
                    "'none'."
                ) from error
            decay, self.description = decay_of(optimizer, tensors, parameters.lengths)
            self._decay = decay.to(loss.device)
        elif weight_decay != "none" and weight_decay:
            self._decay = torch.full_like(self.weights, weight_decay)
            self.description = f"{weight_decay:g}"

    @property
    def size(self) -> int:
        """Number of selected scalars, ``n``."""
        return self.loss.size

    @property
    def device(self) -> torch.device:
        """Of the products."""
        return self.loss.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the products."""
        return self.loss.dtype

    def matmat(self, vectors: Tensor) -> Tensor:
        """``(H + W) V``."""
        images = self.loss.products.matmat(vectors)
        if self._decay is None:
            return images
        return images + self._decay[:, None].to(vectors.dtype) * vectors

    def gradient(self) -> Gradient:
        """``L + w.W w / 2`` and ``g + W w``; costs one gradient."""
        return self.decayed(self.loss.gradient(), self.weights)

    def decayed(self, found: Gradient, weights: Tensor) -> Gradient:
        """What was found at some weights, ``(n,)`` float64, with their decay."""
        if self._decay is None:
            return found
        added = self._decay * weights
        total = found.loss + float(weights @ added) / 2
        return replace(found, loss=total, vector=found.vector + added)

    def value_at(self, direction: Tensor, step: float) -> float:
        """The loss at ``w + step * direction``, by forward passes; ``nan`` where not finite."""
        value = self.loss.run_on_all(partial(_value_at, step=step), direction)
        if self._decay is None:
            return value
        moved = self.weights + step * direction.double()
        return value + float(moved @ (self._decay * moved)) / 2

    def curvature_at(self, direction: Tensor, step: float) -> float:
        """``v.(H + W) v`` along a unit vector ``v``, at ``w + step v``; costs one product."""
        value = self.loss.run_on_all(partial(_curvature_at, step=step), direction)
        if self._decay is None:
            return value
        return value + float(direction.double() @ (self._decay * direction.double()))


def decay_of(
    optimizer: Optimizer, parameters: Sequence[Tensor], lengths: Sequence[int]
) -> tuple[Tensor, str]:
    """What an optimiser adds to each parameter's gradient, ``(n,)``, and that in words."""
    kind = type(optimizer).__name__
    if type(optimizer).__module__.partition(".")[0] != "torch":
        raise RefusedError(
            f"`weight_decay='optimizer'` is known for optimisers of torch, got {kind}. Give a "
            "number, or 'none'."
        )
    group_of = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    own = [group_of.get(id(parameter), {}) for parameter in parameters]
    is_decoupled = [
        bool(group.get("decoupled_weight_decay", isinstance(optimizer, AdamW))) for group in own
    ]
    values = [
        0.0 if apart else float(group.get("weight_decay", 0.0))
        for group, apart in zip(own, is_decoupled, strict=True)
    ]
    sizes = torch.tensor(lengths)
    decay = torch.tensor(values, dtype=torch.float64).repeat_interleave(sizes)
    if any(is_decoupled):
        return decay, f"none, as that of {kind} is decoupled and part of no loss"
    spread = sorted({f"{value:g}" for value in values}, key=float)
    return decay, f"{' and '.join(spread)} of {kind}"


def _value_at(loss: TrainingLoss, direction: Tensor, *, step: float) -> float:
    with enter_on_all(loss.processes, loss.displaced(direction, step)):
        try:
            # with gradients enabled, as a step may differentiate by itself
            total = loss.sum_over_batches(2, partial(_add_value, loss))
        except NonFiniteError:
            return float("nan")
    return float(total[0] / total[1])


def _add_value(loss: TrainingLoss, total: Tensor, index: int) -> None:
    """Add a batch's weighted loss, and its weight."""
    batch = loss.sample.batches[index]
    scalar = loss.evaluate(batch)
    if scalar is not None:
        total[0] += batch.weight * scalar.detach().double()
        total[1] += batch.weight


def _curvature_at(loss: TrainingLoss, direction: Tensor, *, step: float) -> float:
    with enter_on_all(loss.processes, loss.displaced(direction, step)):
        image = loss.products.matmat(direction[:, None])
    return float(direction.double() @ image[:, 0].double())
