"""PyHessian's own parameters."""

from __future__ import annotations

from dataclasses import dataclass

from lightning_hessian.options.checks import check_whole, is_number
from lightning_hessian.options.solver import Solver


@dataclass(frozen=True, kw_only=True)
class PyHessian(Solver):
    """PyHessian 0.1 itself, with its own stopping rules and its defaults.

    Each method's parameters stand under its name. The number of eigenvalues, PyHessian's ``top_n``,
    is ``num_eigenvalues``, as for every solver.

    Args:
        eigenvalues_maxIter: Most products for one eigenvalue.
        eigenvalues_tol: Relative change of the Rayleigh quotient at which one is taken.
        trace_maxIter: Most probes for the trace.
        trace_tol: Relative change of the running mean at which it is taken; 0 uses all probes.
        density_iter: Lanczos steps in a run, each one product.
        density_n_v: Runs, each from a probe of its own.
        density_sigma_squared: Variance of the kernel that draws the density, relative to the
            larger of 1 and the spectrum's range.

    Raises:
        ValueError: If an option is out of its range.

    Example:
        >>> from lightning_hessian import HessianSpectrum, PyHessian
        >>> callback = HessianSpectrum(solver=PyHessian(trace_tol=1e-4))
    """

    eigenvalues_maxIter: int = 100
    eigenvalues_tol: float = 1e-3
    trace_maxIter: int = 100
    trace_tol: float = 1e-3
    density_iter: int = 100
    density_n_v: int = 1
    density_sigma_squared: float = 1e-5

    def __post_init__(self) -> None:
        for name in ("eigenvalues_maxIter", "trace_maxIter", "density_iter", "density_n_v"):
            check_whole(name, getattr(self, name), 1)
        for name in ("eigenvalues_tol", "trace_tol"):
            tolerance = getattr(self, name)
            if not (is_number(tolerance) and tolerance >= 0):
                raise ValueError(
                    f"`{name}` must be a finite number of at least 0, got {tolerance!r}."
                )
        variance = self.density_sigma_squared
        if not (is_number(variance) and variance > 0):
            raise ValueError(
                f"`density_sigma_squared` must be positive and finite, got {variance!r}."
            )

    def max_hvps(self, size: int, *, num_eigenvalues: int, trace: bool, density: bool) -> int:
        """What is spent on ``size`` parameters if no stopping rule is ever met."""
        eigenvalues = min(num_eigenvalues, size) * self.eigenvalues_maxIter
        runs = self.density_n_v * min(self.density_iter, size)
        return eigenvalues + trace * self.trace_maxIter + density * runs
