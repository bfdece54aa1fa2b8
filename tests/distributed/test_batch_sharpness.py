"""A step of two processes is the batches of both."""

from __future__ import annotations

from typing import Any

import pytest

from lightning_hessian import HessianSpectrum, Krylov
from tests.helpers.fitting import trainer
from tests.helpers.least_squares import LeastSquares, Regression
from tests.helpers.processes import ddp_trainer, in_processes

PROBLEM = LeastSquares.drawn(24, (2.0, 1.0, 0.3), seed=0, noise=0.5)


def measured(trained: Any, batch_size: int, **options: Any) -> list[float]:
    """At the start, both means, their errors, and of what they are."""
    callback = HessianSpectrum(
        num_samples="all",
        batch_sharpness=True,
        trace=False,
        density=False,
        max_overhead=None,
        every_n_epochs=None,
        solver=Krylov(max_hvps=8),
        on_error="raise",
    )
    module = Regression(PROBLEM)
    trained(callback, max_steps=1, **options).fit(module, module.loader(batch_size, shuffle=True))
    found = callback.reports[0].batch_sharpness
    assert found is not None
    estimates = found.mean_of_ratios, found.ratio_of_means
    numbers = [number for each in estimates for number in (each.value, each.standard_error)]
    return [*numbers, found.num_steps, found.step_size]


@pytest.mark.parametrize("accumulated", [1, 2])
def test_two_processes_have_the_steps_of_one_with_twice_the_batch_size(accumulated: int) -> None:
    size = 4 // accumulated
    options = {"accumulate_grad_batches": accumulated}
    first, second = in_processes(lambda _: measured(ddp_trainer, size, **options))
    assert first == second
    # sums of float64 in another order
    assert first == pytest.approx(measured(trainer, 8), rel=1e-12)
    assert first[-2:] == [3, 8]


def test_what_one_process_refuses_both_do() -> None:
    def refused(_: int) -> list[str]:
        callback = HessianSpectrum(
            num_samples=8,
            batch_sharpness=True,
            trace=False,
            density=False,
            max_overhead=None,
            every_n_epochs=None,
            solver=Krylov(max_hvps=8),
            on_error="raise",
        )
        module = Regression(PROBLEM)
        run = ddp_trainer(callback, max_steps=1, accumulate_grad_batches=4)
        run.fit(module, module.loader(4, shuffle=True))
        return [str(n) for n in callback.reports[0].notes if n.code.startswith("batch-sharp")]

    first, second = in_processes(refused)
    assert first == second
    assert "batches of 4 samples, fewer than the 8 that one step of the optimiser takes" in first[0]
