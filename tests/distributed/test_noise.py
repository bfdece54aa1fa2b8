"""Random numbers in the step, and weights within a batch, where processes share the batches."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from torch.utils.data import DataLoader

from lightning_hessian import HessianSpectrum
from tests.helpers.fitting import trainer
from tests.helpers.processes import ddp_trainer, in_processes
from tests.objective.test_noise import EXPECTED, SCALES, WANTED, Masked, Scaled, rare_classes

MASKED = Masked()


def spectrum() -> HessianSpectrum:
    return HessianSpectrum(max_overhead=None, every_n_epochs=None, on_error="raise")


def test_other_draws_are_looked_at_by_all_processes() -> None:
    def part(rank: int) -> Any:
        callback = spectrum()
        ddp_trainer(callback, max_steps=1).fit(Scaled(), DataLoader(SCALES, batch_size=16))
        sampling = callback.reports[0].sampling
        assert sampling is not None
        error = float(sampling.eigenvalue_errors[0])
        return sampling.num_draws, sampling.degrees_of_freedom, error, sampling.largest_interval

    first, second = in_processes(part, seconds=60)
    assert first == second
    num_draws, freedom, error, (low, high) = first
    assert (num_draws, freedom) == (2, 8)
    assert 0.3 * EXPECTED < error < 1.9 * EXPECTED
    assert low <= WANTED <= high


@pytest.mark.slow
def test_a_weighted_mean_is_that_of_the_whole_set_on_several_processes() -> None:
    def part(rank: int) -> Any:
        callback = spectrum()
        data = DataLoader(rare_classes(), batch_size=20)
        ddp_trainer(callback, max_steps=1).fit(deepcopy(MASKED), data)
        report = callback.reports[0]
        return report.loss, report.gradient_norm, [note.code for note in report.notes]

    (loss, norm, codes), second = in_processes(part, seconds=60)
    assert second == (loss, norm, codes)
    assert codes == ["weighted-mean"]
    alone = spectrum()
    trainer(alone, max_steps=1).fit(deepcopy(MASKED), DataLoader(rare_classes(), batch_size=240))
    assert loss == pytest.approx(alone.reports[0].loss, rel=1e-5)
    assert norm == pytest.approx(alone.reports[0].gradient_norm, rel=1e-4)
