"""A fit in which PyHessian measures is the fit without it, on one process; on two it is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lightning_hessian import HessianSpectrum, Loss, PyHessian
from tests.helpers.adversarial import DoesEverything
from tests.helpers.fitting import Classifier, classification_data, loader
from tests.helpers.processes import ddp_trainer, in_processes
from tests.helpers.recording import differences, run

FEW = PyHessian(eigenvalues_maxIter=2, trace_maxIter=2, density_iter=2)


def by_pyhessian(**options: Any) -> HessianSpectrum:
    """A callback that measures by PyHessian after every second step."""
    return HessianSpectrum(
        num_eigenvalues=1,
        every_n_train_steps=2,
        num_samples=6,
        max_overhead=None,
        **options,
        solver=FEW,
    )


@pytest.mark.slow
@pytest.mark.sampled
@pytest.mark.parametrize(
    "setting",
    [
        pytest.param({}, id="plain"),
        pytest.param({"precision": "bf16-mixed", "accumulate_grad_batches": 3}, id="accumulating"),
        pytest.param(
            {"module": DoesEverything, "data": lambda: loader(batch_size=5)}, id="by hand"
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:Using ModelCheckpoint with manual optimization")
def test_run_is_bit_identical(setting: dict[str, Any], tmp_path: Path) -> None:
    without = run(tmp_path / "without", **setting)
    callback = by_pyhessian(on_error="raise", loss=Loss(which=0 if "module" in setting else None))
    assert differences(without, run(tmp_path / "with", callback, **setting)) == []
    assert len(callback.reports) >= 3
    assert all(report.num_hvps >= 4 for report in callback.reports)
    assert all(report.engine == "pyhessian" for report in callback.reports)
    # its known deviations are told
    assert all(report.notes for report in callback.reports)


def test_two_processes_are_refused_on_both_and_train_on() -> None:
    def part(rank: int) -> Any:
        callback = by_pyhessian(on_error="warn")
        fit = ddp_trainer(callback, max_steps=2)
        fit.fit(Classifier(), loader(classification_data()))
        return fit.global_step, [report.failure for report in callback.reports]

    for steps, failures in in_processes(part, seconds=30):
        assert steps == 2
        assert "PyHessian knows one process only" in failures[0]
