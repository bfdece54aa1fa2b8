"""What a spectrum is asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from lightning_hessian.options.loss import SweepPrecision
from lightning_hessian.options.pyhessian import PyHessianOptions
from lightning_hessian.records import Engine

GIBIBYTE = 2**30
SMALLEST_SWEEP = 8
"""Two blocks of four."""
WIDEST_TRIAL = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class SpectrumOptions:
    """Numbers wanted, tolerances, and means.

    Attributes:
        num_eigenvalues: Number of largest eigenvalues.
        num_smallest: Number of smallest eigenvalues.
        trace: Whether to estimate the trace.
        density: Whether to make the density and the negative mass.
        rtol: Tolerance of the eigenvalues' residual bounds.
        trace_rtol: Tolerance of the trace's standard error.
        density_rtol: Tolerance of the density's last movement.
        sampling_rtol: Tolerance of the sampling errors, for ``num_samples="auto"``.
        max_hvps: Bound on the products.
        block_size: Probes in a block; by the number of parameters when None.
        sweep_precision: ``full`` products; ``fast_float32`` by faster kernels where these lose
            nothing; ``bfloat16`` ones in the sweep.
        memory_limit: GiB that kept graphs and the sweep's basis may hold; None for shares of what
            is free.
        blocks: Patterns of parameter names whose diagonal blocks' traces are wanted; ``modules``
            for one block a module.
        block_eigenvalues: Largest eigenvalues of each block.
        overlaps: Whether to compare eigenvectors with the last report's.
        engine: ``krylov``, this package's own, or ``pyhessian``.
        pyhessian: Options of that engine.

    Raises:
        ValueError: If an option is out of its range, or nothing is asked for.
    """

    num_eigenvalues: int = 5
    num_smallest: int = 1
    trace: bool = True
    density: bool = True
    rtol: float = 1e-2
    trace_rtol: float = 0.05
    density_rtol: float = 1e-3
    sampling_rtol: float = 0.05
    max_hvps: int = 200
    block_size: int | None = None
    sweep_precision: SweepPrecision = "full"
    memory_limit: float | None = None
    blocks: Sequence[str] | Literal["modules"] = ()
    block_eigenvalues: int = 0
    overlaps: bool = False
    engine: Engine = "krylov"
    pyhessian: PyHessianOptions = field(default_factory=PyHessianOptions)

    @property
    def trial(self) -> SpectrumOptions:
        """The same of few products, for a trial run."""
        refined = self.num_eigenvalues + self.num_smallest
        extra = 2 * refined if self.sweep_precision == "bfloat16" else 0
        return replace(
            self,
            max_hvps=SMALLEST_SWEEP + extra,
            block_size=None if self.block_size is None else min(self.block_size, WIDEST_TRIAL),
            pyhessian=replace(
                self.pyhessian, eigenvalues_maxIter=2, trace_maxIter=2, density_iter=2
            ),
        )

    @property
    def graph_memory(self) -> int | None:
        """Bytes that kept graphs may hold, of ``memory_limit`` half."""
        return None if self.memory_limit is None else int(self.memory_limit * GIBIBYTE / 2)

    def __post_init__(self) -> None:
        self._check_counts()
        for name in ("rtol", "trace_rtol", "density_rtol", "sampling_rtol"):
            tolerance = getattr(self, name)
            if not (_is_number(tolerance) and 0 < tolerance < 1):
                raise ValueError(f"`{name}` must lie between 0 and 1, got {tolerance!r}.")
        for name in ("trace", "density", "overlaps"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"`{name}` must be True or False, got {getattr(self, name)!r}.")
        if self.sweep_precision not in ("full", "fast_float32", "bfloat16"):
            raise ValueError(
                "`sweep_precision` must be 'full', 'fast_float32' or 'bfloat16', got "
                f"{self.sweep_precision!r}."
            )
        limit = self.memory_limit
        if limit is not None and not (_is_number(limit) and 0 < limit < math.inf):
            raise ValueError(
                "`memory_limit` must be a positive number of GiB, or None for shares of what is "
                f"free, got {limit!r}."
            )
        if isinstance(self.blocks, str) and self.blocks != "modules":
            raise ValueError(
                f"`blocks` must be a list of name patterns or 'modules', got the string "
                f"{self.blocks!r}. Write `blocks=[{self.blocks!r}]`."
            )
        if self.engine not in ("krylov", "pyhessian"):
            raise ValueError(f"`engine` must be 'krylov' or 'pyhessian', got {self.engine!r}.")
        if self.engine == "pyhessian" and (self.blocks or self.overlaps):
            raise ValueError(
                "`engine='pyhessian'` gives no eigenvectors and knows no blocks, got "
                f"`blocks={self.blocks!r}` and `overlaps={self.overlaps}`. Leave them out, or take "
                "`engine='krylov'`."
            )
        if self.engine == "pyhessian" and not (self.num_eigenvalues or self.trace or self.density):
            raise ValueError(
                "`engine='pyhessian'` gives no smallest eigenvalues, and nothing else is asked "
                "for. Ask for eigenvalues, the trace or the density, or take `engine='krylov'`."
            )

    def _check_counts(self) -> None:
        for name in ("num_eigenvalues", "num_smallest", "block_eigenvalues"):
            count = getattr(self, name)
            if type(count) is not int or count < 0:
                raise ValueError(f"`{name}` must be a whole number of at least 0, got {count!r}.")
        if not (self.num_eigenvalues or self.num_smallest or self.trace or self.density):
            raise ValueError(
                "`HessianSpectrum` has nothing to measure: `num_eigenvalues` and `num_smallest` "
                "are 0, `trace` and `density` are False. Ask for at least one."
            )
        if type(self.max_hvps) is not int or self.max_hvps < SMALLEST_SWEEP:
            raise ValueError(
                f"`max_hvps` must be a whole number of at least {SMALLEST_SWEEP}, two blocks of "
                f"four, got {self.max_hvps!r}."
            )
        width = self.block_size
        if width is not None and (type(width) is not int or not 1 <= width <= self.max_hvps // 2):
            raise ValueError(
                "`block_size` must be a whole number from 1 to half of `max_hvps`, or None to "
                f"choose it by the number of parameters, got {width!r}."
            )
        refined = self.num_eigenvalues + self.num_smallest
        if self.sweep_precision == "bfloat16" and self.max_hvps < SMALLEST_SWEEP + 2 * refined:
            raise ValueError(
                f"`max_hvps` must be at least {SMALLEST_SWEEP + 2 * refined} to refine {refined} "
                f"eigenvalues of a bfloat16 sweep, got {self.max_hvps}. Raise it, or ask for fewer."
            )
        if self.overlaps and not self.num_eigenvalues:
            raise ValueError(
                "`overlaps` compares the eigenvectors of the largest eigenvalues, of which "
                "`num_eigenvalues=0` asks for none. Ask for at least one."
            )
        if self.block_eigenvalues and not self.blocks:
            raise ValueError(
                f"`block_eigenvalues` needs `blocks`, got {self.block_eigenvalues} and none. Give "
                "name patterns such as `blocks=['encoder.*']`, or `blocks='modules'`."
            )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
