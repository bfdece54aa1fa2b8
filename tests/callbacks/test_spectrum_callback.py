"""The callback in a fit: when it measures, what it keeps."""

from __future__ import annotations

import pytest
import torch

from lightning_hessian import HessianSpectrum
from tests.helpers.fitting import Classifier, loader, trainer


def test_measures_at_start_after_each_epoch_and_not_twice_at_the_end() -> None:
    callback = HessianSpectrum(max_overhead=None, on_error="raise")
    trainer(callback, max_epochs=2).fit(Classifier(), loader())
    assert [r.global_step for r in callback.reports] == [0, 4, 8]
    assert all(r.num_samples == 26 and r.num_parameters == 51 for r in callback.reports)
    assert all(bool(r.largest.converged.all()) for r in callback.reports)
    assert torch.all(callback.reports[0].largest.values.diff() <= 0)


def test_the_overhead_counts_all_reports_and_what_was_looked_at_once() -> None:
    callback = HessianSpectrum(on_error="raise")
    trainer(callback, max_epochs=100).fit(Classifier(), loader(batch_size=13))
    # over the first of two batches two forward passes for noise and ten gradients for products,
    # once more when training has begun; two gradients over all for another partition; two forward
    # passes of the first batch for the loss in both modes
    setup = 2 * (2 / 3 * 13 + 10 * 13) + 2 * 26 + 2 / 3 * 13
    spent = setup + sum(report.cost for report in callback.reports)
    assert callback.reports[-1].overhead == pytest.approx(spent / (100 * 26))
