"""What one Krylov sweep from the gradient tells of the point that it starts at."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lightning_hessian.linalg import (
    KrylovSpace,
    QuadraticModel,
    RitzPairs,
    brackets_below,
    end_vectors,
    ends_have_converged,
    largest_eigenvalues,
    smallest_eigenvalues,
    spectral_density,
    trace_of_start,
)
from lightning_hessian.loss import Gradient
from lightning_hessian.options import Krylov
from lightning_hessian.records import (
    NEAR,
    CriticalPointReport,
    Escape,
    IndexCount,
    Nearness,
    Note,
    SpectralDensity,
)
from lightning_hessian.studies.escape import measure_escape
from lightning_hessian.studies.weight_decay import DecayedLoss

SHARES = (1e-3, 1e-2, 1e-1)
"""Of the weights' length, within which gradient and loss are looked at."""
RELATIVE = (("relative_1e-3", 1e-3), ("relative_1e-6", 1e-6))
ABSOLUTE = ("absolute_1e-3", 1e-3)
ENOUGH_PRODUCTS = 12
"""With these what is left of the gradient within 1 % of the weights has mostly come to rest."""
LOOK_EVERY, AT_REST = 4, 0.01
"""Products between two looks at what is left of the gradient, and how little it may still move."""
STILL_FALLING = 0.02
DENSITY_PRODUCTS = 12
"""From here on a density is about as near to the true one as that of a sweep of its own."""


class Watch:
    """Whether what the verdict hangs on has come to rest, and both ends of the spectrum are known.

    That is what is left of the gradient, and the bracket of the index.
    """

    def __init__(self, norm: float, length: float, solver: Krylov) -> None:
        self._norm, self._length, self._solver = norm, length, solver
        self._looked, self._last = 0, torch.zeros(0)

    def is_at_rest(self, space: KrylovSpace) -> bool:
        """Asked after each block; looks after some."""
        if space.dimension < self._looked + LOOK_EVERY:
            return False
        swept = GradientSweep(space, RitzPairs.of(space), self._norm, self._length, self._solver)
        now, last = swept.watched(), self._last
        self._looked, self._last = space.dimension, now
        is_quiet = len(last) == len(now) and float((now - last).abs().max()) < AT_REST
        rtol = self._solver.rtol
        return (
            is_quiet
            and space.dimension >= ENOUGH_PRODUCTS
            and ends_have_converged(swept.ritz, num_largest=1, num_smallest=1, rtol=rtol)
        )


@dataclass(frozen=True, slots=True, eq=False)
class GradientSweep:
    """A space from the gradient, of a ``norm``, and a probe, at weights of a ``length``."""

    space: KrylovSpace
    ritz: RitzPairs
    norm: float
    length: float
    solver: Krylov

    def report(self) -> CriticalPointReport:
        """The numbers that are read off the sweep."""
        model = self._model
        return CriticalPointReport(
            gradient_norm=self.norm,
            parameter_norm=self.length,
            nearness=() if model is None else tuple(self._nearness(model)),
            flatness=0.0 if model is None else model.flatness,
            indices=self._indices(),
            largest=largest_eigenvalues(self.ritz, 1, rtol=self.solver.rtol),
            smallest=smallest_eigenvalues(self.ritz, 1, rtol=self.solver.rtol),
            trace=trace_of_start(self._of_probe, self.ritz, rtol=self.solver.trace_rtol),
            density=self._density(),
        )

    def watched(self) -> Tensor:
        """What is left of the gradient within each radius, and the ends of the index's bracket."""
        model, scale = self._model, RELATIVE[0][1] * self.ritz.scale
        left = [] if model is None else [model.least_gradient(s * self.length) for s in SHARES]
        (ends,) = brackets_below(self._of_probe, self.ritz, [-max(scale, self.space.noise)])
        return torch.tensor([*left, *ends], dtype=torch.float64)

    def escape(self, loss: DecayedLoss, gradient: Gradient) -> Escape | None:
        """Down the most negative direction, where there is one for certain."""
        lowest, bound = float(self.ritz.values[0]), float(self.ritz.bounds[0])
        if lowest + bound >= -RELATIVE[0][1] * self.ritz.scale:
            return None
        (vector,) = end_vectors(self.space, self.ritz, num_largest=0, num_smallest=1).T
        vector = (vector / vector.norm()).to(loss.device, loss.dtype)
        return measure_escape(loss, vector, gradient.vector, gradient.loss, lowest)

    def notes(self) -> tuple[Note, ...]:
        """What to beware of: a verdict that more products might change."""
        model = self._model
        if model is None or self.space.is_whole:
            return ()
        radius, count = SHARES[1] * self.length, self.space.dimension
        now, before = (
            model.of_first(each).least_gradient(radius) for each in (count, 3 * count // 4)
        )
        if before - now <= STILL_FALLING or now < NEAR:
            return ()
        text = (
            f"What is left of the gradient within 1 % of the weights still fell from {before:.2g} "
            f"to {now:.2g} over the last quarter of {count} products: a critical point may be "
            "nearer than it seems. Raise `max_hvps`, or `max_overhead`."
        )
        return (Note("gradient-not-at-rest", text),)

    @property
    def _model(self) -> QuadraticModel | None:
        """None where there is no gradient to begin with."""
        if not self.norm:
            return None
        return QuadraticModel.of(self.space, gradient_norm=self.norm)

    @property
    def _of_probe(self) -> KrylovSpace:
        """The same space as one from the random probe alone, which the gradient is not."""
        has_both = self.space.start.shape[1] > 1
        return replace(self.space, start=self.space.start[:, 1:]) if has_both else self.space

    def _nearness(self, model: QuadraticModel) -> list[Nearness]:
        radii = [(share, share * self.length) for share in SHARES]
        return [
            Nearness(
                share=share,
                radius=radius,
                gradient_left=model.least_gradient(radius),
                decrease=model.largest_decrease(radius),
            )
            for share, radius in radii
        ]

    def _density(self) -> SpectralDensity | None:
        is_at_rest = self.space.is_whole or self.space.dimension >= DENSITY_PRODUCTS
        return spectral_density(self._of_probe, self.ritz) if is_at_rest else None

    def _indices(self) -> tuple[IndexCount, ...]:
        """Shares by three thresholds, none of them below what rounding leaves."""
        space, ritz = self._of_probe, self.ritz
        weights = spectral_density(space, ritz).weights
        wanted = [(name, share * ritz.scale) for name, share in RELATIVE] + [ABSOLUTE]
        thresholds = [max(threshold, space.noise) for _, threshold in wanted]
        brackets = brackets_below(space, ritz, [s * t for t in thresholds for s in (-1, 1)])
        found = []
        for row, ((name, _), tau) in enumerate(zip(wanted, thresholds, strict=True)):
            below, up_to = brackets[2 * row], brackets[2 * row + 1]
            negative = _share(weights, ritz.values < -tau)
            null = _share(weights, ritz.values.abs() <= tau)
            found.append(
                IndexCount(
                    name=name,
                    threshold=tau,
                    fraction=negative,
                    bracket=(min(below[0], negative), max(below[1], negative)),
                    null=null,
                    null_bracket=(
                        min(max(up_to[0] - below[1], 0.0), null),
                        max(min(up_to[1] - below[0], 1.0), null),
                    ),
                )
            )
        return tuple(found)


def _share(weights: Tensor, chosen: Tensor) -> float:
    # the weights' sum may pass one by a rounding
    return min(float(weights[chosen].sum()), 1.0)
