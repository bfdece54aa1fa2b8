"""PyHessian's parameters under its names."""

from __future__ import annotations

import inspect
from typing import Any

import pyhessian
import pytest

from lightning_hessian.options import PyHessian


def test_defaults_are_those_of_pyhessian() -> None:
    options = PyHessian()
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
        PyHessian(**{name: value})


@pytest.mark.parametrize("name", ["eigenvalues_tol", "trace_tol"])
@pytest.mark.parametrize("value", [-1e-3, float("nan"), float("inf"), True, "small"])
def test_tolerances_are_not_negative(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"`{name}` must be a finite number of at least 0, got"):
        PyHessian(**{name: value})


@pytest.mark.parametrize("value", [0, -1.0, float("nan")])
def test_variance_of_the_kernel_is_positive(value: float) -> None:
    with pytest.raises(ValueError, match="`density_sigma_squared` must be positive and finite"):
        PyHessian(density_sigma_squared=value)


def test_the_number_of_eigenvalues_is_no_option_of_it() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'top_n'"):
        PyHessian(top_n=3)  # type: ignore[call-arg]
    assert "The number of eigenvalues, PyHessian's ``top_n``" in str(PyHessian.__doc__)


def test_bound_on_products_adds_up_what_is_asked() -> None:
    options = PyHessian(eigenvalues_maxIter=7, trace_maxIter=20, density_iter=11, density_n_v=3)
    both = options.max_hvps(1000, num_eigenvalues=4, trace=True, density=True)
    assert both == 4 * 7 + 20 + 33
    assert options.max_hvps(1000, num_eigenvalues=0, trace=False, density=False) == 0
    # no more eigenvalues and Lanczos steps than parameters
    assert options.max_hvps(2, num_eigenvalues=4, trace=False, density=True) == 2 * 7 + 6
