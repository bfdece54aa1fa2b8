"""PyHessian's parameters under its names."""

from __future__ import annotations

import inspect
from typing import Any

import pyhessian
import pytest

from lightning_hessian.options import PyHessianOptions


def test_defaults_are_those_of_pyhessian() -> None:
    options = PyHessianOptions()
    for method in ("eigenvalues", "trace", "density"):
        signature = inspect.signature(getattr(pyhessian.hessian, method))
        for name, parameter in signature.parameters.items():
            if name not in ("self", "top_n"):
                assert getattr(options, f"{method}_{name}") == parameter.default


@pytest.mark.parametrize(
    "name", ["eigenvalues_maxIter", "trace_maxIter", "density_iter", "density_n_v"]
)
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "3"])
def test_counts_are_whole_and_positive(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"`{name}` must be a whole number of at least 1, got"):
        PyHessianOptions(**{name: value})


@pytest.mark.parametrize("name", ["eigenvalues_tol", "trace_tol"])
@pytest.mark.parametrize("value", [-1e-3, float("nan"), float("inf"), True, "small"])
def test_tolerances_are_not_negative(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"`{name}` must be a finite number of at least 0, got"):
        PyHessianOptions(**{name: value})


@pytest.mark.parametrize("value", [0, -1.0, float("nan")])
def test_variance_of_the_kernel_is_positive(value: float) -> None:
    with pytest.raises(ValueError, match="`density_sigma_squared` must be positive and finite"):
        PyHessianOptions(density_sigma_squared=value)


def test_options_are_taken_as_they_are_as_names_or_not_at_all() -> None:
    options = PyHessianOptions(trace_tol=0)
    assert PyHessianOptions.of(options) is options
    assert PyHessianOptions.of({"trace_tol": 0}) == options
    assert PyHessianOptions.of(None) == PyHessianOptions()
    with pytest.raises(ValueError, match=r"got 'top_n'. PyHessian's `top_n` is `num_eigenvalues`"):
        PyHessianOptions.of({"top_n": 3})


def test_bound_on_products_adds_up_what_is_asked() -> None:
    options = PyHessianOptions(
        eigenvalues_maxIter=7, trace_maxIter=20, density_iter=11, density_n_v=3
    )
    both = options.max_hvps(1000, num_eigenvalues=4, trace=True, density=True)
    assert both == 4 * 7 + 20 + 33
    assert options.max_hvps(1000, num_eigenvalues=0, trace=False, density=False) == 0
    # no more eigenvalues and Lanczos steps than parameters
    assert options.max_hvps(2, num_eigenvalues=4, trace=False, density=True) == 2 * 7 + 6
