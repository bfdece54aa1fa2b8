"""The figures of spin glasses: the model's own energies, and a fit that is called one."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_hessian.show import rasterize, spin_glass_figure, spin_glass_fit_figure
from lightning_hessian.theory import (
    complexity,
    fit_energies,
    index_energy,
    index_share,
    threshold_energy,
)
from tests.helpers.artists import line


@pytest.mark.parametrize("depth", [2, 3, 10])
def test_curves_cross_zero_where_each_index_ends(depth: int) -> None:
    numbers, shares = spin_glass_figure(depth).axes
    low, high = numbers.get_xlim()
    bottom, top = numbers.get_ylim()
    assert bottom < 0 < top
    x, y = line(numbers, "all indices")
    np.testing.assert_array_equal(y, complexity(x, depth))
    for index in range(4):
        energy = index_energy(index, depth)
        assert low < -energy < high
        x, y = line(numbers, f"index {index}, zero at -{energy:.4f}")
        np.testing.assert_array_equal(y, complexity(x, depth, index=index))
    (curve,) = [each for each in shares.lines if len(each.get_xdata()) > 2]
    x, y = curve.get_data()
    assert x[0] < -threshold_energy(depth) < threshold_energy(depth) < x[-1]
    np.testing.assert_array_equal(y, index_share(x, depth))


def test_a_fit_is_labelled_as_one_and_has_its_energies_above() -> None:
    losses = np.linspace(0.1, 0.9, 12)
    shares = index_share((losses - 0.8) / 0.4, 3)
    fit = fit_energies(losses, shares, 3)
    figure = spin_glass_fit_figure(losses, shares, fit)
    assert " ".join(figure.get_suptitle().split()) == f"Index against loss: {fit}"
    (axes,) = figure.axes
    x, y = line(axes, "spin glass, H = 3, shift and scale fitted")
    np.testing.assert_array_equal(y, index_share(fit.energies(x), 3))
    np.testing.assert_array_equal(line(axes, "12 critical points"), [losses, shares])
    rasterize(figure)
    (above,) = axes.child_axes
    assert above.get_xlabel() == "energy u by the fit"
    np.testing.assert_allclose(above.get_xlim(), fit.energies(axes.get_xlim()), rtol=1e-9)
