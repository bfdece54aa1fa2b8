"""A Hessian of exactly zero is zero with no error: against the closed form, and with no alarm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lightning_hessian import HessianSpectrum, Loss, SpectrumReport
from lightning_hessian.show import history_figure, rasterize, spectrum_figure
from tests.helpers.fitting import Classifier, loader, trainer


class Linear(Classifier):
    """The loss is linear in the parameters."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.network(batch[0]).mean()


def linear() -> Classifier:
    """A gradient that is the same everywhere."""
    return Linear(nn.Linear(4, 3))


def dead() -> Classifier:
    """No unit is ever on: what is left depends on the last biases alone, and linearly."""
    network = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    with torch.no_grad():
        network[0].weight.zero_()
        network[0].bias.fill_(-1.0)
    return Linear(network)


MODULES = {"linear loss": linear, "dead network": dead}


def measured(module: Classifier, **options: Any) -> list[SpectrumReport]:
    callback = HessianSpectrum(**({"max_overhead": None, "on_error": "raise"} | options))
    trainer(callback, logger=options.pop("logger", False)).fit(module, loader())
    return callback.reports


@pytest.mark.parametrize("make", MODULES.values(), ids=MODULES)
def test_all_numbers_are_zero_without_an_error_or_a_note(make: Callable[[], Classifier]) -> None:
    for report in measured(make()):
        for ends in (report.largest, report.smallest):
            assert len(ends.values) > 0
            assert not ends.values.any()
            assert not ends.residual_bounds.any()
            assert ends.converged.all()
        assert report.trace is not None
        assert report.density is not None
        assert report.negative_mass is not None
        assert report.frobenius_norm is not None
        assert (report.trace.value, report.trace.standard_error) == (0.0, 0.0)
        assert (report.frobenius_norm.value, report.frobenius_norm.standard_error) == (0.0, 0.0)
        assert not report.density.nodes.any()
        assert report.negative_mass.fraction == 0.0
        assert report.notes == ()
        assert report.products.method == "exact"


@pytest.mark.parametrize("make", MODULES.values(), ids=MODULES)
def test_one_product_of_a_random_probe_is_enough_to_know_it(
    make: Callable[[], Classifier],
) -> None:
    (report,) = measured(make(), max_overhead=0.1)
    assert report.num_hvps == 1
    assert (report.largest.values.tolist(), report.largest_interval) == ([0.0], (0.0, 0.0))
    assert report.qualifications == ()


def test_by_differences_it_is_zero_within_their_error() -> None:
    for report in measured(linear(), loss=Loss(products="finite_difference")):
        values = torch.cat([report.largest.values, report.smallest.values])
        bounds = torch.cat([report.largest.residual_bounds, report.smallest.residual_bounds])
        assert (values.abs() <= bounds).all()
        assert float(bounds.max()) < 1e-3
        assert not any("max_hvps" in note for note in report.notes)


def test_its_figures_are_one_spike_at_zero_and_flat_lines() -> None:
    callback = HessianSpectrum(max_overhead=None, on_error="raise")
    trainer(callback).fit(linear(), loader())
    (axes,) = spectrum_figure(callback.reports[-1]).axes
    (curve,) = (line for line in axes.lines if line.get_label() == "spectral density")
    x, y = np.asarray(curve.get_xdata()), np.asarray(curve.get_ydata())
    assert abs(x[y.argmax()]) <= x[1] - x[0]
    above = x[y > axes.get_ylim()[0]]
    assert axes.get_yscale() == "log"
    assert axes.get_xlim()[0] < above.min() < 0 < above.max() < axes.get_xlim()[1]
    assert np.isfinite(axes.get_ylim()).all()
    assert rasterize(history_figure(callback.reports)).std() > 0
