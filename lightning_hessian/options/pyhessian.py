"""PyHessian's own parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class PyHessianOptions:
    """When PyHessian stops: each method's parameters under its name, with PyHessian's defaults.

    The number of eigenvalues, its ``top_n``, is not among them, as every engine has it.

    Attributes:
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
            count = getattr(self, name)
            if type(count) is not int or count < 1:
                raise ValueError(f"`{name}` must be a whole number of at least 1, got {count!r}.")
        for name in ("eigenvalues_tol", "trace_tol"):
            tolerance = getattr(self, name)
            if not (_is_number(tolerance) and tolerance >= 0):
                raise ValueError(
                    f"`{name}` must be a finite number of at least 0, got {tolerance!r}."
                )
        variance = self.density_sigma_squared
        if not (_is_number(variance) and variance > 0):
            raise ValueError(
                f"`density_sigma_squared` must be positive and finite, got {variance!r}."
            )

    @classmethod
    def of(cls, options: PyHessianOptions | Mapping[str, Any] | None) -> PyHessianOptions:
        """Options as a user gives them.

        Args:
            options: Themselves, some of them by name, or None for PyHessian's defaults.

        Returns:
            The options.

        Raises:
            ValueError: If a name is unknown or a value out of its range.
        """
        if isinstance(options, PyHessianOptions):
            return options
        known = [field.name for field in fields(cls)]
        given = dict(options or {})
        for name in given:
            if name not in known:
                raise ValueError(
                    f"`pyhessian` must hold options out of {', '.join(known)}, got {name!r}. "
                    "PyHessian's `top_n` is `num_eigenvalues`."
                )
        return cls(**given)

    def max_hvps(self, size: int, *, num_eigenvalues: int, trace: bool, density: bool) -> int:
        """Bound on the products of one measurement.

        Args:
            size: Number of parameters.
            num_eigenvalues: Asked for.
            trace: Whether it is asked for.
            density: Whether it is asked for.

        Returns:
            What is spent if no stopping rule is ever met.
        """
        eigenvalues = min(num_eigenvalues, size) * self.eigenvalues_maxIter
        runs = self.density_n_v * min(self.density_iter, size)
        return eigenvalues + trace * self.trace_maxIter + density * runs


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
