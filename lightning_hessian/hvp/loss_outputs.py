"""Which outputs a training loss is a function of, and whether they are all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from lightning_hessian.errors import RefusedError
from lightning_hessian.hvp.output_cut import LOSSES, Output
from lightning_hessian.hvp.output_jacobian import CutBatch
from lightning_hessian.loss import Conductor, TrainingLoss
from lightning_hessian.processes import any_process, on_all_or_none

ROUNDINGS = 1e4
"""Machine epsilons by which what is computed in two ways may differ."""
PROPORTIONAL = 1e-5
"""Relative deviation of what is a multiple of a mean square, squared over batches."""
NAMES = ("as_outputs", *LOSSES)


@dataclass(frozen=True, slots=True, kw_only=True)
class LossOutputs:
    """What a training loss is a function of.

    Attributes:
        names: Of the losses of ``torch.nn.functional`` that take the outputs, or ``as_outputs``.
        by_marks: Whether the step marks its outputs by :func:`as_outputs`.
        num_outputs: Numbers that the network puts out over all frozen samples.
        mean_square: Mean squared distance of them to their targets, where the loss is a multiple of
            it; else None.
        has_more: Whether the loss depends on the parameters also past these outputs, as by a
            penalty on weights.
    """

    names: tuple[str, ...]
    by_marks: bool
    num_outputs: int
    mean_square: float | None
    has_more: bool


def find_outputs(loss: TrainingLoss | Conductor) -> LossOutputs:
    """Find the outputs that a training loss is a function of, and see that they are all.

    On every batch the loss computed from the cut outputs must be the step's; its derivatives by way
    of them, with those past them, the gradient; and ``u.(J v) = (J^T u).v``. Costs some six
    gradients.

    Raises:
        RefusedError: If no outputs are found, they do not make up the loss, or ``J v`` is wrong.
        NoExactProductsError: If an operation's backward pass cannot be differentiated.

    Example:
        >>> from lightning_hessian.hvp import open_loss
        >>> network, data = torch.nn.Linear(3, 2), [(torch.eye(3), torch.zeros(3, 2))]
        >>> def step(batch, _):
        ...     return torch.nn.functional.mse_loss(network(batch[0]), batch[1])
        >>> with open_loss(network, step, data) as loss:
        ...     outputs = find_outputs(loss)
        >>> outputs.names, outputs.num_outputs, outputs.has_more
        (('mse_loss',), 6, False)
    """
    return loss.run_on_all(_find_outputs)


def _find_outputs(loss: TrainingLoss) -> LossOutputs:
    by_marks = any_process(loss.processes, on_all_or_none(loss.processes, lambda: _marks(loss)))
    facts = loss.sum_over_batches(len(NAMES) + _Facts.LENGTH, partial(_add_facts, loss, by_marks))
    sizes, rest = facts[: len(NAMES)], _Facts(facts[len(NAMES) :])
    if not bool(sizes.any()):
        raise RefusedError(
            "the outputs that the loss is a function of were not found: the step calls none of "
            f"{', '.join(LOSSES)} of `torch.nn.functional` on something with a graph. Mark them "
            "where the network has made them: `logits = as_outputs(self.network(x))`."
        )
    num_outputs = round(float(sizes.sum()))
    return LossOutputs(
        names=tuple(name for name, size in zip(NAMES, sizes.tolist(), strict=True) if size > 0),
        by_marks=by_marks,
        num_outputs=num_outputs,
        mean_square=rest.squares / num_outputs if rest.is_multiple else None,
        has_more=rest.past > 0,
    )


class _Facts:
    """Sums over batches: what is past the outputs, and how the loss goes with the mean square."""

    LENGTH = 6

    def __init__(self, sums: Tensor) -> None:
        self._sums = sums
        self.past, self.squares, *_ = map(float, sums)

    @property
    def is_multiple(self) -> bool:
        """Whether the loss is the same multiple of the mean square on each batch."""
        _, _, mean_mean, loss_loss, mean_loss, num_others = map(float, self._sums)
        # by Cauchy and Schwarz equal for multiples alone
        is_proportional = mean_loss**2 >= (1 - PROPORTIONAL) * mean_mean * loss_loss
        return num_others == 0 and self.past == 0 and is_proportional

    @staticmethod
    def of(cut: CutBatch, weight: float, direct: Sequence[Tensor | None]) -> Tensor:
        """One batch's."""
        past = sum(float(piece.abs().sum()) for piece in direct if piece is not None)
        only = cut.outputs[0] if len(cut.outputs) == 1 else None
        assert cut.value is not None
        own = float(cut.value.detach())
        if only is None or not _is_homogeneous(only, cut.slopes[0], own):
            return torch.tensor([past, 0, 0, 0, 0, 1], dtype=torch.float64)
        assert only.misses is not None
        squares = float(only.misses.double().square().sum())
        mean = squares / only.misses.numel()
        moments = [weight * mean**2, weight * own**2, weight * mean * own]
        return torch.tensor([past, squares, *moments, 0], dtype=torch.float64)


def _is_homogeneous(output: Output, slope: Tensor, own: float) -> bool:
    """``z - t`` scaled by ``c`` scales the loss by ``c^2``: Euler's ``(z - t).dl/dz = 2 l``."""
    if output.misses is None:
        return False
    twice = float((output.misses.double() * slope.detach().double()).sum())
    return bool(abs(twice - 2 * own) <= PROPORTIONAL**0.5 * abs(own))


def _marks(loss: TrainingLoss) -> bool:
    """Whether the step marks outputs, on this process's batches up to the first with a loss."""
    for batch in loss.sample.batches:
        cut = CutBatch(loss, batch, by_marks=True)
        if cut.value is not None:
            return cut.has_marks
    return False


def _add_facts(loss: TrainingLoss, by_marks: bool, total: Tensor, index: int) -> None:
    """Check one batch, and add what it tells."""
    batch = loss.sample.batches[index]
    whole = loss.evaluate(batch)
    cut = CutBatch(loss, batch, by_marks=by_marks)
    if whole is None or cut.value is None:
        return
    direct = cut.direct()
    _check_whole(loss, whole, cut, direct)
    if cut.outputs:
        _check_transpose(loss, cut)
    if batch.weight == 0:  # a repeat, for a process that has fewer batches
        return
    for output in cut.outputs:
        total[NAMES.index(output.name)] += output.value.numel()
    total[len(NAMES) :] += _Facts.of(cut, batch.weight, direct).to(total)


def _check_whole(
    loss: TrainingLoss, whole: Tensor, cut: CutBatch, direct: Sequence[Tensor | None]
) -> None:
    """The loss by way of the outputs is the step's, and so is its gradient."""
    limit = ROUNDINGS * torch.finfo(loss.dtype).eps
    assert cut.value is not None
    first, second = float(whole.detach()), float(cut.value.detach())
    through = cut.transposed([slope.detach() for slope in cut.slopes])
    made, plain, size = torch.zeros(3, loss.size, dtype=torch.float64, device=loss.device)
    for pieces in (direct, through):
        loss.parameters.add_flat(made, pieces, 1.0)
        loss.parameters.add_flat(size, [None if p is None else p.abs() for p in pieces], 1.0)
    if whole.requires_grad:
        tensors = loss.parameters.tensors
        gradient = torch.autograd.grad(whole, tensors, allow_unused=True)
        loss.parameters.add_flat(plain, gradient, 1.0)
    is_same = abs(first - second) <= limit * max(abs(first), abs(second))
    if not (is_same and float((made - plain).norm()) <= limit * float(size.norm() + plain.norm())):
        raise RefusedError(
            "the outputs that were found do not make up the loss: cut off from them, it is "
            f"{second:.6g} instead of {first:.6g}, or has another gradient. Does the step use the "
            "loss, or a changed output, to compute another output? Mark all outputs where they are "
            "final, by `as_outputs`."
        )


def _check_transpose(loss: TrainingLoss, cut: CutBatch) -> None:
    """``u.(J v) = (J^T u).v``: a custom function's backward may not be linear to autograd."""
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(loss.size, generator=generator, dtype=torch.float64)
    vector = normal.to(loss.device, loss.dtype)
    images = [torch.ones_like(value) for value in cut.values]
    (tangents,) = cut.along([loss.parameters.split(vector)])
    ahead = torch.cat([tangent.double().reshape(-1) for tangent in tangents])
    pulled = torch.zeros(loss.size, dtype=torch.float64, device=loss.device)
    loss.parameters.add_flat(pulled, cut.transposed(images), 1.0)
    back = pulled * vector.double()
    size = float(ahead.abs().sum() + back.abs().sum())
    if abs(float(ahead.sum() - back.sum())) > ROUNDINGS * torch.finfo(loss.dtype).eps * size:
        raise RefusedError(
            "derivatives of the outputs along a vector do not agree with their transposes: some "
            "operation's backward pass cannot be differentiated, and does not say so. "
            "`torch.autograd.gradgradcheck` on custom functions and fused layers finds it."
        )
