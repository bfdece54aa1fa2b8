"""Where the curvature of mini-batches along their gradients was seen to settle, by optimiser."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor
from torch.optim import SGD, Optimizer

from lightning_hessian.errors import RefusedError
from lightning_hessian.loss import Clipping, Conductor, TrainingLoss
from lightning_hessian.records import MinibatchLines, Note
from lightning_hessian.studies.stability_edge import stability_edge
from lightning_hessian.studies.stability_margin import (
    as_configured,
    of_no_step,
    refuse_clipping_by_value,
)


def minibatch_lines(optimizer: Optimizer, parameters: Sequence[Tensor]) -> MinibatchLines:
    """Read ``2 (1 - b) / lr`` and ``2 (1 + b) / lr`` off SGD of momentum ``b``, for its next step.

    Batch sharpness was seen to settle at the first with small batches and at the second with large
    ones; without momentum both are ``2 / lr``. It is an observation on networks, no law: a least
    squares problem may diverge below the line and converge above it. Dampening ``d`` makes
    the rate ``lr (1 - d)``. Weight decay, which adds to curvature in every direction, is taken off.

    Args:
        optimizer: Stepping all of its parameters at one rate.
        parameters: Those measured, in the order of the Hessian's rows.

    Returns:
        Both lines, in units of the loss per squared parameter unit; infinite at a rate of zero.

    Raises:
        RefusedError: If the optimiser is another, steps further parameters, ascends, or has several
            rates or momenta.

    References:
        A. Andreyev and P. Beneventano (2024), Edge of stochastic stability, arXiv 2412.20553 (2 /
        lr); A. Andreyev and others (2026), arXiv 2604.14108, abstract (momentum).

    Example:
        >>> import torch
        >>> weight = torch.nn.Parameter(torch.ones(2))
        >>> lines = minibatch_lines(torch.optim.SGD([weight], lr=0.1, momentum=0.9), [weight])
        >>> round(lines.small, 6), round(lines.large, 6)
        (2.0, 38.0)
    """
    if type(optimizer) is not SGD:
        raise RefusedError(f"they are known for SGD, got {type(optimizer).__name__}.")
    own = {id(parameter) for parameter in parameters}
    groups = optimizer.param_groups
    stepped = [p for group in groups for p in group["params"] if p.requires_grad]
    if others := sum(id(p) not in own for p in stepped):
        raise RefusedError(
            f"they are of steps of all parameters, but the SGD steps {others} tensors that are not "
            "measured. Leave `parameters` out."
        )
    if any(group["nesterov"] for group in groups):
        raise RefusedError("they are not known for Nesterov's momentum.")
    edge = stability_edge(optimizer, parameters)
    if edge.sign < 0 or not edge.is_uniform or len({group["momentum"] for group in groups}) > 1:
        raise RefusedError("they are of one learning rate, momentum and weight decay, descending.")
    step, decay = float(edge.steps[0]), float(edge.decay[0])
    momentum = float(groups[0]["momentum"])
    scale = 2 / step if step else float("inf")
    return MinibatchLines(
        small=scale * (1 - momentum) - decay,
        large=scale * (1 + momentum) - decay,
        optimizer=edge.optimizer,
    )


def lines_of(loss: TrainingLoss | Conductor) -> tuple[MinibatchLines | None, tuple[Note, ...]]:
    """The lines of the optimiser that steps a loss's parameters, or in a note why none; free."""
    try:
        if loss.trained is None:
            raise RefusedError("there is no optimiser outside of a fit.")
        refuse_clipping_by_value(loss.trained.clipping)
        lines = minibatch_lines(*loss.trained.of(loss.parameters))
    except RefusedError as error:
        text = f"The lines of batch sharpness are absent: {error}"
        return None, (Note("batch-sharpness-lines-not-known", text),)
    notes = (*as_configured(loss.trained), *of_no_step(math.isfinite(lines.small)))
    return lines, (*notes, *_of_clipping(loss.trained.clipping))


def _of_clipping(clipping: Clipping | None) -> tuple[Note, ...]:
    if clipping is None:
        return ()
    text = (
        f"The lines of batch sharpness are those of steps without clipping: of batches whose "
        f"gradient is longer than {clipping.value:g} the learning rate is lower, and they are "
        "higher."
    )
    return (Note("batch-sharpness-without-clipping", text),)
