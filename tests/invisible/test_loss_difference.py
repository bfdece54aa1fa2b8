"""A run with the callback of loss differences is the run without it, bit by bit."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lightning_hessian import Krylov, Loss, Perturbations, Surface
from tests.helpers.difference import difference
from tests.helpers.hostile import HostileData, HostileModule
from tests.helpers.recording import differences, run

EVERYTHING: dict[str, Any] = {
    "derivatives": True,
    "every_n_train_steps": 4,
    "num_probes": 3,
    "perturbations": Perturbations(sigmas=(0.1,), count=4, subspace=2),
    "hessian_differences": 1,
    "surface": Surface(points=3),
    "num_orders": 3,
    "held_out": True,
    "solver": Krylov(max_hvps=16),
}
# without noise in step and transfer, by which a sample would have no loss
quiet = {"module": partial(HostileModule, noise=0.0), "data": partial(HostileData, noise=0.0)}


def workers() -> HostileData:
    return HostileData(noise=0.0, num_workers=1, persistent_workers=True)


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("setting", "ours"),
    [
        pytest.param({}, {}, id="plain"),
        pytest.param({}, EVERYTHING, id="everything-measured"),
        pytest.param({"precision": "bf16-mixed"}, {"held_out": True}, id="bf16-mixed"),
        pytest.param(
            {"accumulate_grad_batches": 3}, {"loss": Loss(precision=64)}, id="accumulate, float64"
        ),
        pytest.param({"data": workers}, {"at_checkpoints": True}, id="persistent workers"),
    ],
)
def test_run_with_callback_is_bit_identical(
    setting: dict[str, Any], ours: dict[str, Any], tmp_path: Path
) -> None:
    setting = quiet | setting
    without = run(tmp_path / "without", **setting)
    callback = difference(**({"every_n_train_steps": 2} | ours))
    with_ours = run(tmp_path / "with", callback, **setting)
    assert differences(without, with_ours) == []
    assert len(callback.reports) >= 3
    assert all(report.failure is None for report in callback.reports)


def test_a_step_with_random_numbers_is_measured_and_training_is_as_without(tmp_path: Path) -> None:
    callback = difference(on_error="raise")
    without, with_ours = run(tmp_path / "without"), run(tmp_path / "with", callback)
    assert differences(without, with_ours) == []
    for report in callback.reports:
        assert report.failure is None
        assert "noise-frozen" in [note.code for note in report.notes]
