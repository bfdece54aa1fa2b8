"""When a Krylov sweep has found what was asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lightning_hessian.linalg.density import quadrature_weights
from lightning_hessian.linalg.eigenvalues import ends_have_converged
from lightning_hessian.linalg.krylov import KrylovSpace, RitzPairs
from lightning_hessian.linalg.trace import NUM_PILOT, trace_of_start
from lightning_hessian.linalg.wasserstein import wasserstein_distance
from lightning_hessian.records import Note, Spectrum

STRIDE = 4
QUIET_STRIDES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerances:
    """What :func:`measure_spectrum` is asked for, and how exactly; refuses to ask for nothing."""

    num_eigenvalues: int
    num_smallest: int
    trace: bool
    density: bool
    rtol: float
    trace_rtol: float
    density_rtol: float
    max_hvps: int
    floor: float = 0.0
    trace_floor: float = 0.0
    only_reached: bool = False

    @property
    def limit(self) -> str:
        """The bound on the products, in words: an option, or what somebody else could pay for."""
        if self.only_reached:
            return f"the {self.max_hvps} products allowed"
        return f"max_hvps={self.max_hvps}"

    def __post_init__(self) -> None:
        if not (self.num_eigenvalues or self.num_smallest or self.trace or self.density):
            raise ValueError(
                "nothing to measure: `num_eigenvalues` and `num_smallest` are 0, `trace` and "
                "`density` are False. Ask for at least one."
            )


class SpectrumRule:
    """Watches a sweep until its eigenvalues have converged and its distribution is at rest.

    The distribution is at rest when over eight products in a row it has moved by less than the
    tolerance against what it was four products earlier, whatever the width of a block.

    Where products of ``low_precision`` have errors that the sweep cannot get below, which a
    refinement takes away later, only what the sweep leaves out counts.
    """

    def __init__(
        self, tolerances: Tolerances, *, low_precision: bool = False, reads_trace: bool = True
    ) -> None:
        self._reads_trace = reads_trace and not low_precision
        self._tolerances = tolerances
        self._is_low_precision = low_precision
        self._history: list[tuple[int, Tensor, Tensor]] = []
        self._quiet_since: int | None = None
        self._is_quiet = not tolerances.density
        self.moved = 1.0 if tolerances.density else 0.0

    def watch(self, space: KrylovSpace) -> bool:
        """Take note of the space after another block; True when the sweep may stop."""
        ritz = RitzPairs.of(space)
        if self._tolerances.density:
            self._watch_density(space, ritz)
        return (
            self._is_quiet
            and self._ends_have_converged(space, ritz)
            and self._may_probe(space, ritz)
        )

    def density_notes(self, space: KrylovSpace) -> tuple[Note, ...]:
        """What to say in the end of a density that has not come to rest."""
        if self._is_quiet or space.is_whole:
            return ()
        text = (
            f"the density still moved by {self.moved:.1%} of its range (Wasserstein distance) in "
            f"the last products within {self._tolerances.limit}: it is coarser than its error band "
            "shows."
        )
        return (Note("density-not-at-rest", text),)

    def _may_probe(self, space: KrylovSpace, ritz: RitzPairs) -> bool:
        asked = self._tolerances
        if not asked.trace:
            return True
        if (
            self._reads_trace
            and trace_of_start(
                space, ritz, rtol=asked.trace_rtol, floor=asked.trace_floor
            ).converged
        ):
            return True
        # after fewer products than two pilots cost, one outlier may hold most of the complement's
        # weight, and an interval from 8 values so skewed covers the truth in 90 % of cases only
        rest = space.size - space.dimension
        return space.dimension >= 2 * NUM_PILOT and rest > NUM_PILOT

    def _ends_have_converged(self, space: KrylovSpace, ritz: RitzPairs) -> bool:
        asked = self._tolerances
        if self._is_low_precision:
            ritz = replace(ritz, bounds=ritz.bounds - space.noise)
        return ends_have_converged(
            ritz,
            num_largest=asked.num_eigenvalues,
            num_smallest=asked.num_smallest,
            rtol=asked.rtol,
            floor=asked.floor,
        )

    def _watch_density(self, space: KrylovSpace, ritz: RitzPairs) -> None:
        # the bare quadrature: locking an eigenvalue moves mass without any gain in resolution
        now = space.dimension, ritz.values, quadrature_weights(space, ritz).mean(dim=1)
        earlier = [past for past in self._history if past[0] <= now[0] - STRIDE]
        if earlier:
            extent = float(ritz.values[-1] - ritz.values[0])
            moved = wasserstein_distance(*earlier[-1][1:], *now[1:])
            self.moved = moved / extent if extent > 0 else 0.0
            # a multiple of the identity has a range of rounding only
            if moved > self._tolerances.density_rtol * extent + space.noise:
                self._quiet_since = None
            elif self._quiet_since is None:
                self._quiet_since = earlier[-1][0]
            since = now[0] if self._quiet_since is None else self._quiet_since
            self._is_quiet = now[0] - since >= QUIET_STRIDES * STRIDE
        self._history = [*earlier[-1:], *(h for h in self._history if h[0] > now[0] - STRIDE), now]


def unmet_notes(found: Spectrum, asked: Tolerances, space: KrylovSpace) -> tuple[Note, ...]:
    """What to say of eigenvalues and a trace that did not reach their tolerances in a space."""
    notes = []
    reason = _reason(asked, space)
    for name, ends in (("largest", found.largest), ("smallest", found.smallest)):
        missed = int((~ends.converged).sum())
        if missed:
            text = (
                f"{missed} of the {len(ends.converged)} {name} eigenvalues did not reach "
                f"rtol={asked.rtol:g} {reason}"
            )
            notes.append(Note(f"{name}-not-reached", text))
    if found.trace is not None and not found.trace.converged:
        text = (
            f"the trace did not reach trace_rtol={asked.trace_rtol:g} within {asked.limit}: its "
            "interval is wider."
        )
        notes.append(Note("trace-not-reached", text))
    return tuple(notes)


def _reason(asked: Tolerances, space: KrylovSpace) -> str:
    """Why eigenvalues are not within tolerance: too few products, or too few digits in them."""
    if space.product_noise <= max(asked.rtol * RitzPairs.of(space).extent, asked.floor):
        return f"within {asked.limit}: they are Ritz values with the bounds given."
    advice = "" if space.vectors.dtype == torch.float64 else " Give `precision=64`."
    return (
        f"as products are off by up to {space.product_noise:.1e} by themselves (roundings, or "
        f"differences of gradients), which no further product makes better.{advice}"
    )
