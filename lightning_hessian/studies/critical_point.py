"""What kind of point the weights are: how near a critical one, of which index, which way down."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from lightning_hessian.linalg import (
    CountingOperator,
    KrylovSpace,
    RitzPairs,
    block_lanczos,
    rademacher,
    room_for,
)
from lightning_hessian.loss import Conductor, Gradient, TrainingLoss
from lightning_hessian.options import PointOptions
from lightning_hessian.records import (
    CriticalPointReport,
    LayerNorm,
    Note,
)
from lightning_hessian.studies.escape import NUM_PRODUCTS, num_passes
from lightning_hessian.studies.gradient_sweep import ENOUGH_PRODUCTS, GradientSweep, Watch
from lightning_hessian.studies.study import tell_nobody
from lightning_hessian.studies.sweep_room import sweep_memory
from lightning_hessian.studies.trade import (
    CHECKS,
    FEWEST_SAMPLES,
    FORWARD,
    LEAST_SAMPLES,
    MOST_SAMPLES,
    PRODUCT,
    RECOMPUTED,
    price,
)
from lightning_hessian.studies.weight_decay import DecayedLoss

LEAST_PRODUCTS, USUAL_PRODUCTS = 8, 24
"""The first tell how near a critical point is, the second of the index too."""
TRIAL_PRODUCTS = 4
ESCAPE = NUM_PRODUCTS * RECOMPUTED + 16 * FORWARD
"""Gradients that following the most negative direction is expected to come to."""


class CriticalPointStudy:
    """Measures what kind of point the weights are.

    Args:
        options: What is asked for.
        seed: Of the probe.
    """

    record: ClassVar[type[CriticalPointReport]] = CriticalPointReport
    fewest_samples: ClassVar[int] = LEAST_SAMPLES

    def __init__(self, options: PointOptions, seed: int) -> None:
        self._options = options
        self._seed = seed

    def sample_size(self, allowance: float) -> int:
        """As many as the usual products leave room for, from 128 to 2,048."""
        count = int(allowance / self.usual_price(1))
        return min(max(count, FEWEST_SAMPLES), MOST_SAMPLES)

    def least_price(self, num_samples: int, *, is_first: bool = False) -> float:  # noqa: ARG002
        """Of eight products, and the way down."""
        return self._price(num_samples, LEAST_PRODUCTS)

    def setup_price(self, num_samples: int) -> float:
        """Of the checks of the products."""
        return CHECKS * num_samples

    def fair_price(self, num_samples: int) -> float:
        """Of twelve products, with which the verdict has come to rest."""
        return self._price(num_samples, ENOUGH_PRODUCTS)

    def usual_price(self, num_samples: int) -> float:
        """Of as many as the index takes."""
        return self._price(num_samples, USUAL_PRODUCTS)

    def _price(self, num_samples: int, products: int) -> float:
        escape = ESCAPE * num_samples if self._options.escape else 0.0
        return price(num_samples, min(products, self._options.solver.max_hvps)) + escape

    def describe(self, num_samples: int, allowance: float) -> str:
        """About how many products a report is made with."""
        return f"about {self._num_products(num_samples, allowance)} products each"

    def max_hvps(
        self, loss: TrainingLoss, allowance: float | None = None, *, is_trial: bool = False
    ) -> int:
        """Bound on the products of the sweep and of the way down."""
        few = TRIAL_PRODUCTS if is_trial else self._num_products(loss.sample.num_samples, allowance)
        return few + (NUM_PRODUCTS if self._options.escape else 0)

    def _num_products(self, num_samples: int, allowance: float | None) -> int:
        """Of the sweep."""
        most = self._options.solver.max_hvps
        if allowance is None:
            return most
        left = allowance / num_samples - 1 - (ESCAPE if self._options.escape else 0.0)
        return min(max(int(left / PRODUCT + 1e-9), LEAST_PRODUCTS), most)

    def state(self) -> dict[str, Any]:
        """Nothing goes on from one report to the next."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Nothing to go on from."""

    def settle(self) -> None:
        """Nothing to compare with."""

    def required_samples(self, report: CriticalPointReport) -> int:
        """As many as there are."""
        return report.num_samples

    def measure(
        self,
        loss: TrainingLoss | Conductor,
        *,
        allowance: float | None = None,
        has_products: bool = True,  # noqa: ARG002
        on_gradient: Callable[[float], None] = tell_nobody,
        on_products: Callable[[int], None] = tell_nobody,
        is_trial: bool = False,
    ) -> CriticalPointReport:
        """Measure the gradient, one sweep that starts from it, and the way down, if there is one.

        Costs one gradient, at most ``max_hvps`` products, two of these at other weights, and some
        ten to twenty forward passes.

        Returns:
            See :meth:`Study.measure`.
        """
        options, samples = self._options, loss.sample.num_samples
        most = TRIAL_PRODUCTS if is_trial else self._num_products(samples, allowance)
        decayed = DecayedLoss(loss, options.weight_decay)
        start = time.perf_counter()
        gradient = decayed.gradient()
        gradient_seconds = time.perf_counter() - start
        on_gradient(gradient_seconds)
        swept = self._sweep(decayed, gradient, most, on_products)
        escape = swept.escape(decayed, gradient) if options.escape else None
        num_hvps, cost = swept.space.dimension, price(samples, swept.space.dimension)
        if escape is not None:
            num_hvps += NUM_PRODUCTS
            cost += samples * (NUM_PRODUCTS * RECOMPUTED + num_passes(escape) * FORWARD)
            on_products(NUM_PRODUCTS)
        quality = loss.products.quality
        notes = (*quality.notes, *swept.notes(), *_of_samples(loss))
        return replace(
            swept.report(),
            loss=gradient.loss,
            escape=escape,
            layers=_layer_norms(loss, decayed.weights),
            weight_decay=decayed.description,
            products=quality,
            gradient_seconds=gradient_seconds,
            unused_parameters=gradient.unused,
            num_parameters=loss.size,
            num_samples=samples,
            data=loss.sample.description,
            loss_name=loss.name,
            num_hvps=num_hvps,
            cost=cost,
            notes=notes,
        )

    def _sweep(
        self,
        loss: DecayedLoss,
        gradient: Gradient,
        most: int,
        on_products: Callable[[int], None],
    ) -> GradientSweep:
        """One block Lanczos run from the gradient and a random probe beside it."""
        solver, generator = self._options.solver, torch.Generator().manual_seed(self._seed)
        norm = float(gradient.vector.norm())
        probes = rademacher(loss.size, 1, generator=generator).to(loss.device, loss.dtype)
        if norm > 0:
            probes = torch.cat([(gradient.vector[:, None] / norm).to(loss.dtype), probes], dim=1)
        probes = probes[:, : min(loss.size, most)]
        basis = "full" if solver.basis == "auto" else solver.basis
        if basis != "cpu":
            limit, width = sweep_memory(loss.loss, solver), probes.shape[1]
            most = min(most, room_for(loss, limit, width=width, kept=1, kind=basis))
        length = float(loss.weights.norm())
        watch = Watch(norm, length, solver)

        # to the end where there is room for it: the index is then a count
        may_rest = loss.size > most

        def stop(space: KrylovSpace) -> bool:
            return may_rest and watch.is_at_rest(space)

        space = block_lanczos(
            CountingOperator(loss, on_products),
            probes,
            max_dimension=most,
            generator=generator,
            should_stop=stop,
            product_error=lambda: loss.loss.products.quality.error,
            basis=basis,
        )
        return GradientSweep(space, RitzPairs.of(space), norm, length, solver)


def _layer_norms(loss: TrainingLoss | Conductor, weights: Tensor) -> tuple[LayerNorm, ...]:
    parts = loss.parameters.blocks("modules")
    return tuple(
        LayerNorm(name=name, norm=float(weights[positions.to(weights.device)].norm()))
        for name, positions in parts.items()
    )


def _of_samples(loss: TrainingLoss | Conductor) -> tuple[Note, ...]:
    """A point of the loss on some samples is another one of the loss on all."""
    if loss.sample.is_whole:
        return ()
    text = (
        f"The point is one of the loss on {loss.sample.num_samples:,} samples: on the whole "
        "training set the gradient is another, and so may be the kind of point."
    )
    return (Note("point-of-these-samples", text),)
