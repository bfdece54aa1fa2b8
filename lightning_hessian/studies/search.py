"""A search for a critical point from the present weights, which it leaves as they are."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from lightning_hessian.errors import InterruptedMeasurementError, RefusedError
from lightning_hessian.loss import TrainingLoss
from lightning_hessian.options import Krylov, PointOptions, WeightDecay, check_weight_decay
from lightning_hessian.records import (
    CriticalPointReport,
    MethodShare,
    ModuleMove,
    SearchOutcome,
    SearchReport,
    SearchStep,
)
from lightning_hessian.studies.critical_point import CriticalPointStudy
from lightning_hessian.studies.eigenvector_following import eigenvector_following
from lightning_hessian.studies.index_preserving_newton import index_preserving_newton
from lightning_hessian.studies.newton_steps import NewtonSteps
from lightning_hessian.studies.saddle_free_newton import saddle_free_newton
from lightning_hessian.studies.saddle_search import SaddleSearch
from lightning_hessian.studies.search_ledger import SearchLedger
from lightning_hessian.studies.search_method import SearchMethod
from lightning_hessian.studies.search_state import Place, SearchState
from lightning_hessian.studies.searched_loss import SearchedLoss
from lightning_hessian.studies.study import tell_nobody

SearchTarget = Literal["minimum", "nearest"] | int
"""What is searched for; a number is the index of a saddle."""


def keep_nothing(state: SearchState) -> None:
    """What is told of each step where nobody keeps it."""


LARGEST_DENSE = 2000
LARGEST_TOLERANCE = 1.0
"""From there on nothing is a critical point by it."""
"""Parameters up to which all of the Hessian is computed in each step."""
KRYLOV_DIMENSION = 100
SAME_LOSS = 1e-6
"""By which a loss may differ from what it was, and be the same by other roundings."""
COUNTED = 256
"""Parameters up to which all eigenvalues of the point found are counted."""


@dataclass(frozen=True, slots=True, eq=False)
class FoundPoint:
    """Where a search ended.

    Attributes:
        report: What it is, how it was found and at which price.
        weights: ``(n,)`` float64, all selected parameters in one row.
        parameters: The same by name and in their shapes, as ``load_state_dict(..., strict=False)``
            takes them.
        state: To go on from.
    """

    report: SearchReport
    weights: Tensor
    parameters: Mapping[str, Tensor]
    state: SearchState


def find_critical_point(
    loss: TrainingLoss,
    *,
    target: SearchTarget,
    weight_decay: WeightDecay = "none",
    tolerance: float = 1e-8,
    max_hvps: int = 10_000,
    trajectories: bool = True,
    on_products: Callable[[int], None] = tell_nobody,
    on_step: Callable[[SearchState], None] = keep_nothing,
    state: SearchState | None = None,
) -> FoundPoint:
    """Search for a critical point of ``L(w) + w.W w / 2`` from the module's weights.

    ``minimum``
        by saddle-free Newton steps, each in a Krylov space of 100 products. Some 4,000 products for
        a tanh network of 3,600 parameters; ten times as many may take more than the default.
    ``nearest``
        by Newton steps that keep the index: finds the critical point that the weights are a
        thousandth of their length beside, mostly one a hundredth away, none that is far.
    a number
        a saddle of that index, with the whole Hessian, up to 2,000 parameters: by eigenvector
        following, for 140 Hessians; where that has not converged by then or has ended otherwise,
        along a Newton trajectory ``g(w) = s r`` that is set off where 20 Levenberg-Marquardt steps
        from the start have made ``|g|`` small. Each zero of ``s`` is a critical point. The curve
        has 10 Hessians' worth of products and gradients, then eigenvectors are followed from where
        it is, then the curve has twice as many, and so on, until it has closed or has escaped to
        both sides. Where only points of other indices were found it is the nearest of these. With
        weight decay some two of three starts lead to a saddle of the index within 140 Hessians and
        four of five within 700, rarely near the start.

    A critical point is not always found, and no method is known that finds saddles of large
    networks dependably: the report says how the search ended. The module has its weights, buffers
    and generators back afterwards, to the last bit. A ``KeyboardInterrupt``, or the loss's own
    interruption, ends the search with what it has.

    Args:
        loss: Opened in float64.
        target: What is searched for.
        weight_decay: ``W``, which is part of the loss: "none"; "optimizer" for what the fit's
            optimiser adds to its gradients; or a number for all parameters. Without it there may be
            no minimum at finite weights.
        tolerance: Norm of the gradient at which the search has converged.
        max_hvps: Products that may be spent; those on the report of the point found are among them,
            and each gradient along a trajectory counts as one.
        trajectories: Go on along a Newton trajectory where eigenvectors have not led to a saddle of
            the index; False to end there.
        on_products: Told the number of products after each block.
        on_step: Told where the search is, to go on from: at its start and after each step, along a
            trajectory after each Hessian's worth of it.
        state: Of an earlier search for the same target, to go on from; the budget is new.

    Returns:
        The point, its report, and a state to go on from.

    Raises:
        ValueError: If an argument is out of its range, or the state is of another search.
        RefusedError: If the loss is not computed in float64, or has too many parameters for a
            number as target; or if the optimiser's weight decay is asked for and not known.
        NonFiniteError: If the loss is not finite where the search begins, or the gradient at any
            weights that it looks at. Where only the loss is not, the step is made shorter.
        KeyboardInterrupt: If one comes before anything was seen.
        InterruptedMeasurementError: Likewise.

    Example:
        >>> from lightning_hessian.hvp import open_loss
        >>> from lightning_hessian.studies import find_critical_point
        >>> weights = torch.nn.Linear(2, 1, bias=False, dtype=torch.float64)
        >>> _ = weights.weight.data.copy_(torch.tensor([[0.4, 0.3]]))
        >>> def batch_loss(_batch, _index):  # a saddle at zero, minima at (+-1, 0)
        ...     x, y = weights.weight[0]
        ...     return (x**2 - 1) ** 2 + y**2
        >>> for target in ("minimum", 1):
        ...     with open_loss(weights, batch_loss, [None], dtype=torch.float64) as loss:
        ...         found = find_critical_point(loss, target=target)
        ...     print(found.report.point.kind, [round(x, 6) + 0.0 for x in found.weights.tolist()])
        minimum [1.0, 0.0]
        saddle [0.0, 0.0]
    """
    check_weight_decay(weight_decay)
    _check(loss, target, tolerance, max_hvps)
    method = _method(target, loss.size)
    last = loss.size if loss.size <= max(COUNTED, method.price) else KRYLOV_DIMENSION
    # a point that was found before the search went on is looked at again in the end
    spare = 2 * last if state and state.turn and state.turn.best else last
    if max_hvps < method.price + spare:
        raise ValueError(
            f"`max_hvps` must be at least {method.price + spare}, a step by {method.name} and the "
            f"report of the point, got {max_hvps}."
        )
    searched = SearchedLoss(loss, weight_decay, on_products)
    name = f"index {target}" if isinstance(target, int) else target
    before = _begin(state, name, searched)
    ledger = SearchLedger(
        searched, before, max_hvps - spare, tolerance, lambda: on_step(search.state())
    )
    search: SaddleSearch | NewtonSteps
    if isinstance(target, int) and trajectories:
        search = SaddleSearch(ledger, target, before, partial(_report_at, searched, last))
    else:
        search = NewtonSteps(ledger, method, before, num_looks=len(before.course))
    point: CriticalPointReport | None = None
    outcome: SearchOutcome = "interrupted"
    try:
        ended = search.run() or "budget spent"
        point = search.best_report if isinstance(search, SaddleSearch) else None
        point = point or _report_at(searched, last, search.place.weights)
        is_flat = ended in ("stalled", "budget spent") and point.kind == "flat"
        outcome = "flat" if is_flat else ended
    except (KeyboardInterrupt, InterruptedMeasurementError):
        if not ledger.course:
            raise
    after, place = search.state(), search.place
    report = _report(searched, after, place, outcome, point, tolerance)
    weights = place.weights
    parts = [part.clone() for part in loss.parameters.split(weights)]
    named = dict(zip(loss.parameters.names, parts, strict=True))
    return FoundPoint(report, weights, named, after)


def _method(target: SearchTarget, size: int) -> SearchMethod:
    if isinstance(target, int):
        return eigenvector_following(target, size)
    dimension = min(KRYLOV_DIMENSION, size)
    is_descent = target == "minimum"
    return saddle_free_newton(dimension) if is_descent else index_preserving_newton(dimension)


def _begin(state: SearchState | None, target: str, searched: SearchedLoss) -> SearchState:
    origin = searched.origin
    if state is None:
        return SearchState(target, origin.clone(), origin.clone())
    if state.target != target or len(state.weights) != len(origin):
        raise ValueError(
            f"`state` must be of a search for {target} among {len(origin)} parameters, got one for "
            f"{state.target} among {len(state.weights)}. Leave it out to begin anew."
        )
    state = state.to(origin)
    if state.course:
        known, here = state.course[0].loss, searched.value_at(state.start)
        if not math.isclose(here, known, rel_tol=SAME_LOSS, abs_tol=SAME_LOSS):
            raise ValueError(
                f"`state` must be of a search of this loss, got one of a loss that was {known:.8g} "
                f"where it began, and this one is {here:.8g} there. Give the same samples, mode "
                "and weight decay, or leave it out to begin anew."
            )
    return state


def _report_at(searched: SearchedLoss, num_products: int, weights: Tensor) -> CriticalPointReport:
    """What kind of point weights are."""
    solver = Krylov(max_hvps=max(num_products, 8))
    options = PointOptions(escape=False, weight_decay=searched.weight_decay, solver=solver)
    # the module's parameters go there with the first evaluation, which `at` begins with
    with searched.at(weights):
        searched.num_gradients += 1
        study = CriticalPointStudy(options, seed=0)
        return study.measure(searched.loss, on_products=searched.told)


def _report(
    searched: SearchedLoss,
    state: SearchState,
    place: Place,
    outcome: SearchOutcome,
    point: CriticalPointReport | None,
    tolerance: float,
) -> SearchReport:
    weights, course = place.weights, state.course
    if (course[-1].loss, course[-1].gradient_norm) != (place.step.loss, place.step.gradient_norm):
        course = (*course, place.step)
    moved, parts = weights - state.start, searched.loss.parameters.blocks("modules")
    return SearchReport(
        target=state.target,
        outcome=outcome,
        tolerance=tolerance,
        weight_decay=searched.decay,
        point=point,
        course=course,
        method=course[-1].method,
        shares=_shares(state.course),
        passed=() if state.turn is None else state.turn.passed,
        start_norm=float(state.start.norm()),
        norm=float(weights.norm()),
        distance=float(moved.norm()),
        moves=tuple(
            ModuleMove(
                name=name,
                distance=float(moved[places].norm()),
                norm=float(state.start[places].norm()),
                norm_found=float(weights[places].norm()),
            )
            for name, places in ((name, part.to(moved.device)) for name, part in parts.items())
        ),
        num_hvps=state.num_hvps,
        num_gradients=state.num_gradients,
        num_passes=state.num_passes,
        seconds=state.seconds,
    )


def _shares(course: Sequence[SearchStep]) -> tuple[MethodShare, ...]:
    """What each method has spent, by the lines of the course that it has written."""
    spent: dict[str, tuple[int, int]] = {}
    hvps, gradients = 0, 0
    for line in course:
        before = spent.get(line.method, (0, 0))
        spent[line.method] = (
            before[0] + line.num_hvps - hvps,
            before[1] + line.num_gradients - gradients,
        )
        hvps, gradients = line.num_hvps, line.num_gradients
    return tuple(
        MethodShare(name=name, num_hvps=hvps, num_gradients=gradients)
        for name, (hvps, gradients) in spent.items()
    )


def _check(loss: TrainingLoss, target: SearchTarget, tolerance: float, max_hvps: int) -> None:
    size = loss.size
    is_index = type(target) is int and 0 <= target <= size
    if target not in ("minimum", "nearest") and not is_index:
        raise ValueError(
            f"`target` must be 'minimum', 'nearest' or an index from 0 to {size}, got {target!r}."
        )
    if type(max_hvps) is not int:
        raise ValueError(f"`max_hvps` must be a whole number, got {max_hvps!r}.")
    if not (isinstance(tolerance, int | float) and 0 < tolerance <= LARGEST_TOLERANCE):
        raise ValueError(
            f"`tolerance` must be above 0 and at most {LARGEST_TOLERANCE:g}, got {tolerance!r}. It "
            "is the norm of the gradient at which a point is called critical; 1e-8 is the default."
        )
    if loss.dtype != torch.float64:
        raise RefusedError(
            f"a search needs a loss in float64, got {loss.dtype}: in fewer digits the gradient "
            "comes to rest before it vanishes. Open it with `dtype=torch.float64`."
        )
    if is_index and size > LARGEST_DENSE:
        raise RefusedError(
            f"`target={target}` needs the whole Hessian, which is computed for up to "
            f"{LARGEST_DENSE:,} parameters, got {size:,}. Search for 'minimum' or 'nearest', or "
            "open the loss with fewer `parameters=`."
        )
