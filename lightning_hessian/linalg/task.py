"""What a measurement of a spectrum works with, however its vectors are kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_hessian.linalg.counting_operator import CountingOperator
from lightning_hessian.linalg.krylov import KrylovSpace
from lightning_hessian.linalg.stopping import Tolerances
from lightning_hessian.linalg.trace import estimate_trace
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

    def trace(self, space: KrylovSpace, max_num_probes: int) -> TraceEstimate | None:
        """The trace, by probes on the space's complement, if it is asked for."""
        if not self.asked.trace:
            return None
        return estimate_trace(
            self.operator,
            rtol=self.asked.trace_rtol,
            max_num_probes=max_num_probes,
            generator=self.generator,
            space=space,
            probes_per_block=self.width,
            blocks=self.blocks,
        )
