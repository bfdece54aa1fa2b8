"""What a measurement of a spectrum works with, however its vectors are kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_hessian.linalg.counting_operator import CountingOperator
from lightning_hessian.linalg.krylov import KrylovSpace, RitzPairs
from lightning_hessian.linalg.stopping import Tolerances
from lightning_hessian.linalg.trace import NUM_PILOT, estimate_trace, trace_of_start
from lightning_hessian.records import TraceEstimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """The arguments of :func:`measure_spectrum` that all ways to measure share."""

    asked: Tolerances
    operator: CountingOperator
    width: int  # probes in a block
    generator: torch.Generator
    product_error: Callable[[], float]
    blocks: Sequence[Tensor]
    vectors: bool

    def trace(
        self, space: KrylovSpace, max_num_probes: int, *, reads_start: bool = False
    ) -> TraceEstimate | None:
        """The trace, if it is asked for: from the start of a sweep, or by further probes."""
        if not self.asked.trace:
            return None
        found: TraceEstimate | None = None
        if reads_start and not self.blocks:
            found = trace_of_start(
                space, RitzPairs.of(space), rtol=self.asked.trace_rtol, floor=self.asked.trace_floor
            )
            if found.converged or max_num_probes < NUM_PILOT:
                return found
        return estimate_trace(
            self.operator,
            rtol=self.asked.trace_rtol,
            floor=self.asked.trace_floor,
            max_num_probes=max_num_probes,
            generator=self.generator,
            space=space,
            probes_per_block=self.width,
            blocks=self.blocks,
        )
