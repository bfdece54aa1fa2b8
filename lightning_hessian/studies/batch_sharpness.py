"""How sharp the loss of a step is along its own gradient, over the steps that training takes."""

from __future__ import annotations

import math

from lightning_hessian.data import FEWEST_STEPS, StepBatches
from lightning_hessian.errors import RefusedError
from lightning_hessian.hvp import AlongGradients, along_gradients
from lightning_hessian.loss import Conductor, TrainingLoss
from lightning_hessian.records import BatchSharpness, Estimate, Note
from lightning_hessian.statistics import mean_of_ratios, ratio_of_means
from lightning_hessian.studies.minibatch_lines import lines_of
from lightning_hessian.studies.trade import ALONG_GRADIENT, ALONG_GRADIENT_OF_SEVERAL

HALVES = Note(
    "batch-sharpness-without-error",
    "Batch sharpness has no standard error: two steps make up an epoch, so that each has the "
    "samples that the other lacks, and how far they differ does not tell how far others would.",
)


def batch_sharpness(
    loss: TrainingLoss | Conductor, *, allowance: float | None = None
) -> tuple[BatchSharpness | None, tuple[Note, ...]]:
    """Measure ``E[g_B . H_B g_B / |g_B|^2]`` and ``E[g_B . H_B g_B] / E[|g_B|^2]`` over steps.

    At the same weights, with the same step ``B`` in ``g_B`` and ``H_B``. Where training shuffles,
    the expectation is over all batches that it could draw, and those of an epoch are one partition
    of many. So the standard errors are not lowered where the steps are a large part of an epoch:
    that would be right of sums over samples, whose scatter cancels over a whole epoch, and these
    ratios are none. Of what is such a sum in them, the errors are too large. They are lowered, down
    to zero, where training takes the same batches in each epoch, and are not known where two steps
    make up an epoch.

    Costs 3 sample gradients for each sample of the steps, 4 where a step takes several batches or
    processes: about one Hessian-vector product over the frozen samples, and a gradient.

    Args:
        loss: At the present parameters. Where it knows of no steps, each of its batches is one.
        allowance: Sample gradients that it may cost; None for no limit.

    Returns:
        Both means with their errors and the lines beside them, and what to beware of; None where
        they cannot be measured, with the reason.

    References:
        A. Andreyev and P. Beneventano (2024), Edge of stochastic stability, arXiv 2412.20553.

    Example:
        >>> import torch
        >>> from lightning_hessian.hvp import open_loss
        >>> line = torch.nn.Linear(1, 1, bias=False)
        >>> batches = [torch.tensor([[1.0]]), torch.tensor([[2.0]])]
        >>> with open_loss(line, lambda x, _: line(x).square().mean() / 2, batches) as loss:
        ...     found, _ = batch_sharpness(loss)
        >>> found.mean_of_ratios.value, found.num_steps  # of a line through 0: the mean of x^2
        (2.5, 2)
    """
    try:
        steps = _payable(_steps_of(loss), allowance)
        table = along_gradients(loss, steps.num_steps)
        _refuse_useless(table)
    except RefusedError as error:
        text = f"Batch sharpness was not measured: {error}"
        return None, (Note("batch-sharpness-not-measured", text),)
    has_gradient = table.squares > 0
    directed = table.forms[has_gradient], table.squares[has_gradient]
    ratios = mean_of_ratios(*directed, share=steps.share)
    means = ratio_of_means(table.forms, table.squares, share=steps.share)
    notes: tuple[Note, ...] = (HALVES,) if steps.are_halves else ()
    if missing := len(has_gradient) - len(directed[0]):
        notes = (*notes, _without_gradient(missing, len(has_gradient)))
    lines, of_lines = lines_of(loss)
    found = BatchSharpness(
        mean_of_ratios=_estimate(ratios, steps),
        ratio_of_means=_estimate(means, steps),
        lines=lines,
        num_steps=len(has_gradient),
        step_size=steps.step_size,
        cost=steps.num_steps * _price_of_one(steps),
    )
    return found, (*notes, *of_lines)


def cost_along_gradients(
    loss: TrainingLoss | Conductor, *, allowance: float | None = None
) -> float:
    """Sample gradients that it comes to; 0 where it cannot be measured."""
    if loss.products.quality.method != "exact":
        return 0.0
    try:
        steps = _payable(_steps_of(loss), allowance)
    except RefusedError:
        return 0.0
    return steps.num_steps * _price_of_one(steps)


def _price_of_one(steps: StepBatches) -> float:
    """Sample gradients of a step."""
    each = ALONG_GRADIENT if steps.per_step == 1 else ALONG_GRADIENT_OF_SEVERAL
    return each * steps.step_size


def _payable(steps: StepBatches, allowance: float | None) -> StepBatches:
    """As many of the steps as may be paid for."""
    if allowance is None:
        return steps
    each = _price_of_one(steps)
    fewest = min(steps.num_steps, FEWEST_STEPS)
    if allowance < fewest * each:
        raise RefusedError(
            f"{fewest} steps of {steps.step_size:,} samples each cost {fewest * each:,.0f} sample "
            f"gradients, and may cost {allowance:,.0f}. Raise `max_overhead`, or measure more "
            "seldom."
        )
    return steps.first(min(steps.num_steps, int(allowance / each)))


def _steps_of(loss: TrainingLoss | Conductor) -> StepBatches:
    """The steps that a loss knows of, or its frozen batches as such."""
    steps = loss.step_batches
    if isinstance(steps, RefusedError):
        raise steps
    if steps is not None:
        return steps
    largest = max(batch.num_samples for batch in loss.sample.batches)
    return StepBatches(frozen=loss.sample, per_process=1, per_step=1, step_size=largest)


def _refuse_useless(table: AlongGradients) -> None:
    if not bool(table.forms.isfinite().all() and table.squares.isfinite().all()):
        raise RefusedError("the curvature of a step along its gradient is not finite.")
    if not bool((table.squares > 0).any()):
        raise RefusedError("no step has a gradient to look along.")


def _estimate(found: tuple[float, float], steps: StepBatches) -> Estimate:
    value, error = found
    return Estimate(value=value, standard_error=math.nan if steps.are_halves else error)


def _without_gradient(count: int, total: int) -> Note:
    return Note(
        "steps-without-gradient",
        f"{count} of {total} steps have no gradient, and so no direction: the mean of ratios is "
        "over the others.",
    )
