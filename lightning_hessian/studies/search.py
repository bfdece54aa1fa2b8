"""A search for a critical point from the present weights, which it leaves as they are."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from lightning_hessian.errors import InterruptedMeasurementError, RefusedError
from lightning_hessian.loss import TrainingLoss
from lightning_hessian.options import Krylov, PointOptions, WeightDecay, check_weight_decay
from lightning_hessian.records import (
    NO_MINIMUM,
    CriticalPointReport,
    ModuleMove,
    SearchOutcome,
    SearchReport,
    SearchStep,
)
from lightning_hessian.studies.critical_point import CriticalPointStudy
from lightning_hessian.studies.eigenvector_following import eigenvector_following
from lightning_hessian.studies.index_preserving_newton import index_preserving_newton
from lightning_hessian.studies.saddle_free_newton import saddle_free_newton
from lightning_hessian.studies.search_method import SearchMethod
from lightning_hessian.studies.searched_loss import Quadratic, SearchedLoss
from lightning_hessian.studies.study import tell_nobody

SearchTarget = Literal["minimum", "nearest"] | int
"""What is searched for; a number is the index of a saddle."""


def keep_nothing(state: SearchState) -> None:
    """What is told of each step where nobody keeps it."""


LARGEST_DENSE = 2000
"""Parameters up to which all of the Hessian is computed in each step."""
KRYLOV_DIMENSION = 100
COUNTED = 256
"""Parameters up to which all eigenvalues of the point found are counted."""
FIRST, SHORTEST = 0.1, 1e-12
"""Length of the first step, and of those that are given up, in shares of the weights'."""


@dataclass(frozen=True, slots=True, eq=False)
class SearchState:
    """From where a search goes on, fit for ``torch.save``.

    Attributes:
        target: Of the search, as in its report.
        start: ``(n,)`` float64, the weights where it began.
        weights: ``(n,)`` float64, where it is.
        radius: Of the next step; None before the first.
        course: So far.
        num_hvps: So far, and likewise for gradients, forward passes and seconds.
        num_gradients: So far.
        num_passes: So far.
        seconds: So far.
    """

    target: str
    start: Tensor
    weights: Tensor
    radius: float | None = None
    course: tuple[SearchStep, ...] = ()
    num_hvps: int = 0
    num_gradients: int = 0
    num_passes: int = 0
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """In tensors and primitives, as ``torch.load(..., weights_only=True)`` reads them.

        Returns:
            By field name.
        """
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SearchState:
        """What :meth:`to_dict` described.

        Args:
            values: By field name.

        Returns:
            An equal state.
        """
        course = tuple(SearchStep(**each) for each in values["course"])
        return cls(**{**values, "course": course})


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
        a saddle of that index, by eigenvector following with the whole Hessian, up to 2,000
        parameters. From two of three starts it finds one, rarely near the start.

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
        max_hvps: Products that may be spent; those on the report of the point found are among them.
        on_products: Told the number of products after each block.
        on_step: Told where the search is, at its start and after each step; to go on from.
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
    _check(loss, target, tolerance)
    method = _method(target, loss.size)
    last = loss.size if loss.size <= max(COUNTED, method.price) else KRYLOV_DIMENSION
    if max_hvps < method.price + last:
        raise ValueError(
            f"`max_hvps` must be at least {method.price + last}, a step by {method.name} and the "
            f"report of the point, got {max_hvps}."
        )
    searched = SearchedLoss(loss, weight_decay, on_products)
    name = f"index {target}" if isinstance(target, int) else target
    before = _begin(state, name, searched.origin)
    started = time.perf_counter()

    def tell() -> None:
        on_step(search.state(before.seconds + time.perf_counter() - started))

    search = _Search(searched, method, before, tolerance, max_hvps - last, tell)
    try:
        outcome = search.run()
        point = _report_at(searched, search.weights, last)
        if outcome in ("stalled", "budget spent") and point.kind == "flat":
            outcome = "flat"
    except (KeyboardInterrupt, InterruptedMeasurementError):
        if not search.has_begun:
            raise
        outcome, point = "interrupted", None
    after = search.state(before.seconds + time.perf_counter() - started)
    report = _report(searched, after, outcome, point, tolerance)
    parts = [part.clone() for part in loss.parameters.split(after.weights)]
    named = dict(zip(loss.parameters.names, parts, strict=True))
    return FoundPoint(report, after.weights, named, after)


class _Search:
    """Steps of a method, as short as it takes for them to be accepted."""

    def __init__(
        self,
        loss: SearchedLoss,
        method: SearchMethod,
        state: SearchState,
        tolerance: float,
        budget: int,
        tell: Callable[[], None],
    ) -> None:
        self.weights = state.weights
        self._loss = loss
        self._method = method
        self._before = state
        self._tolerance = tolerance
        self._budget = budget
        self._tell = tell
        self._radius = state.radius
        # where it goes on it looks again at where it was
        self._course = list(state.course[:-1])
        self._start_norm = float(state.start.norm()) or 1.0

    def run(self) -> SearchOutcome:
        """Step until one of the rules ends it."""
        while True:
            with self._loss.at(self.weights) as slope:
                self._course.append(
                    SearchStep(
                        loss=slope.loss, gradient_norm=slope.norm, num_hvps=self._num_products
                    )
                )
                self._tell()
                if slope.norm < self._tolerance:
                    return "converged"
                if float(self.weights.norm()) > NO_MINIMUM * self._start_norm:
                    return "escaped"
                if self._loss.num_products + self._method.price > self._budget:
                    return "budget spent"
                model = self._method.look(self._loss, slope)
            if not self._advances(model):
                return "stalled"

    @property
    def has_begun(self) -> bool:
        """Whether there is anything to tell."""
        return len(self._course) > 0

    def state(self, seconds: float) -> SearchState:
        """Where it is now."""
        before, loss = self._before, self._loss
        return replace(
            before,
            weights=self.weights,
            radius=self._radius,
            course=tuple(self._course),
            num_hvps=self._num_products,
            num_gradients=before.num_gradients + loss.num_gradients,
            num_passes=before.num_passes + loss.num_passes,
            seconds=seconds,
        )

    @property
    def _num_products(self) -> int:
        return self._before.num_hvps + self._loss.num_products

    def _advances(self, model: Quadratic) -> bool:
        """Take a step; False where none is accepted, however short."""
        method, length = self._method, max(self._start_norm, float(self.weights.norm()))
        signs = method.signs(model.values)
        radius = min(self._radius or FIRST * length, method.farthest * length)
        while True:
            step = model.step(signs, radius)
            if float(step.vector.norm()) <= SHORTEST * length:
                return False
            there = self.weights + step.vector
            factor = method.judge(self._loss, model, step, there)
            radius *= factor
            if factor >= 1:
                self._radius, self.weights = radius, there
                return True


def _method(target: SearchTarget, size: int) -> SearchMethod:
    if isinstance(target, int):
        return eigenvector_following(target, size)
    dimension = min(KRYLOV_DIMENSION, size)
    is_descent = target == "minimum"
    return saddle_free_newton(dimension) if is_descent else index_preserving_newton(dimension)


def _begin(state: SearchState | None, target: str, origin: Tensor) -> SearchState:
    if state is None:
        return SearchState(target, origin.clone(), origin.clone())
    if state.target != target or len(state.weights) != len(origin):
        raise ValueError(
            f"`state` must be of a search for {target} among {len(origin)} parameters, got one for "
            f"{state.target} among {len(state.weights)}. Leave it out to begin anew."
        )
    return replace(state, start=state.start.to(origin), weights=state.weights.to(origin))


def _report_at(searched: SearchedLoss, weights: Tensor, num_products: int) -> CriticalPointReport:
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
    outcome: SearchOutcome,
    point: CriticalPointReport | None,
    tolerance: float,
) -> SearchReport:
    moved, parts = state.weights - state.start, searched.loss.parameters.blocks("modules")
    return SearchReport(
        target=state.target,
        outcome=outcome,
        tolerance=tolerance,
        weight_decay=searched.decay,
        point=point,
        course=state.course,
        start_norm=float(state.start.norm()),
        norm=float(state.weights.norm()),
        distance=float(moved.norm()),
        moves=tuple(
            ModuleMove(
                name=name,
                distance=float(moved[places].norm()),
                norm=float(state.start[places].norm()),
                norm_found=float(state.weights[places].norm()),
            )
            for name, places in ((name, part.to(moved.device)) for name, part in parts.items())
        ),
        num_hvps=state.num_hvps,
        num_gradients=state.num_gradients,
        num_passes=state.num_passes,
        seconds=state.seconds,
    )


def _check(loss: TrainingLoss, target: SearchTarget, tolerance: float) -> None:
    size = loss.size
    is_index = type(target) is int and 0 <= target <= size
    if target not in ("minimum", "nearest") and not is_index:
        raise ValueError(
            f"`target` must be 'minimum', 'nearest' or an index from 0 to {size}, got {target!r}."
        )
    if not 0 < tolerance < math.inf:
        raise ValueError(
            f"`tolerance` must be positive and finite, got {tolerance!r}. It is a norm of the "
            "gradient; 1e-8 is the default."
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
