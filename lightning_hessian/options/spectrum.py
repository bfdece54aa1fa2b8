"""What a spectrum is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from lightning_hessian.options.checks import check_flag, check_whole
from lightning_hessian.options.pyhessian import PyHessian
from lightning_hessian.options.solver import SMALLEST_SWEEP, Krylov, Solver

WIDEST_TRIAL = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class SpectrumOptions:
    """Numbers wanted, and what computes them.

    Attributes:
        num_eigenvalues: Number of largest eigenvalues.
        num_smallest: Number of smallest eigenvalues.
        trace: Whether to estimate the trace.
        density: Whether to make the density and the negative mass.
        parameter_blocks: Patterns of parameter names whose diagonal blocks' traces are wanted;
            ``modules`` for one block a module.
        eigenvalues_per_block: Largest eigenvalues of each block.
        overlaps: Whether to compare eigenvectors with the last report's.
        edge: Whether to measure how far the optimiser is from its edge of stability; "auto" where
            that takes no product.
        batch_sharpness: Whether to measure the curvature of single steps along their gradients.
        solver: :class:`Krylov` or :class:`PyHessian`.
        grows: Whether the sample grows until its errors are within ``sampling_rtol``.

    Raises:
        ValueError: If an option is out of its range, nothing is asked for, or the solver cannot
            give it.
    """

    num_eigenvalues: int = 5
    num_smallest: int = 1
    trace: bool = True
    density: bool = True
    parameter_blocks: Sequence[str] | Literal["modules"] = ()
    eigenvalues_per_block: int = 0
    overlaps: bool = False
    edge: bool | Literal["auto"] = "auto"
    batch_sharpness: bool = False
    solver: Solver = field(default_factory=Krylov)
    grows: bool = False

    @property
    def trial(self) -> SpectrumOptions:
        """The same of few products, for a trial run."""
        solver = self.solver
        if isinstance(solver, PyHessian):
            few = replace(solver, eigenvalues_maxIter=2, trace_maxIter=2, density_iter=2)
            return replace(self, solver=few)
        assert isinstance(solver, Krylov)
        refined = self.num_eigenvalues + self.num_smallest
        extra = 2 * refined if solver.precision == "bfloat16" else 0
        width = solver.probes_per_block
        few_steps = replace(
            solver,
            max_hvps=SMALLEST_SWEEP + extra,
            probes_per_block=None if width is None else min(width, WIDEST_TRIAL),
        )
        return replace(self, solver=few_steps)

    def __post_init__(self) -> None:
        for name in ("num_eigenvalues", "num_smallest", "eigenvalues_per_block"):
            check_whole(name, getattr(self, name), 0)
        for name in ("trace", "density", "overlaps", "batch_sharpness"):
            check_flag(name, getattr(self, name))
        if self.edge != "auto" and not isinstance(self.edge, bool):
            raise ValueError(f"`edge` must be True, False or 'auto', got {self.edge!r}.")
        if not (self.num_eigenvalues or self.num_smallest or self.trace or self.density):
            raise ValueError(
                "`HessianSpectrum` has nothing to measure: `num_eigenvalues` and `num_smallest` "
                "are 0, `trace` and `density` are False. Ask for at least one."
            )
        if isinstance(self.parameter_blocks, str) and self.parameter_blocks != "modules":
            raise ValueError(
                "`parameter_blocks` must be a list of name patterns or 'modules', got the string "
                f"{self.parameter_blocks!r}. Write `parameter_blocks=[{self.parameter_blocks!r}]`."
            )
        if self.overlaps and not self.num_eigenvalues:
            raise ValueError(
                "`overlaps` compares the eigenvectors of the largest eigenvalues, of which "
                "`num_eigenvalues=0` asks for none. Ask for at least one."
            )
        if self.eigenvalues_per_block and not self.parameter_blocks:
            raise ValueError(
                f"`eigenvalues_per_block` needs `parameter_blocks`, got "
                f"{self.eigenvalues_per_block} and none. Give name patterns such as "
                "`parameter_blocks=['encoder.*']`, or `parameter_blocks='modules'`."
            )
        self._check_solver()

    def _check_solver(self) -> None:
        """Refuse what the solver cannot give."""
        solver = self.solver
        if isinstance(solver, PyHessian):
            if self.parameter_blocks or self.overlaps:
                raise ValueError(
                    "`solver=PyHessian()` gives no eigenvectors and knows no blocks, got "
                    f"`parameter_blocks={self.parameter_blocks!r}` and `overlaps={self.overlaps}`. "
                    "Leave them out, or take `solver=Krylov()`."
                )
            if not (self.num_eigenvalues or self.trace or self.density):
                raise ValueError(
                    "`solver=PyHessian()` gives no smallest eigenvalues, and nothing else is asked "
                    "for. Ask for eigenvalues, the trace or the density, or take "
                    "`solver=Krylov()`."
                )
        elif isinstance(solver, Krylov):
            refined = self.num_eigenvalues + self.num_smallest
            least = SMALLEST_SWEEP + 2 * refined
            if solver.precision == "bfloat16" and solver.max_hvps < least:
                raise ValueError(
                    f"`max_hvps` must be at least {least} to refine {refined} eigenvalues of a "
                    f"bfloat16 sweep, got {solver.max_hvps}. Raise it, or ask for fewer."
                )
        else:
            raise ValueError(
                f"`solver` must be a `Krylov` or a `PyHessian`, got {solver!r}. Write "
                "`solver=Krylov()` for the default."
            )
