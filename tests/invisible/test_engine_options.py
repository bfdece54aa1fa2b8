"""A run with all means of the engine on is the run without the callback, bit by bit."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lightning_hessian import Krylov, Loss, PyHessian
from lightning_hessian.fit import frozen_sample
from tests.helpers.hostile import HostileData, HostileModule
from tests.helpers.recording import differences, run, spectrum

SWEEP = Krylov(rtol=0.5, sampling_rtol=0.01, max_hvps=24, precision="bfloat16", memory_limit=1.0)
EVERYTHING: dict[str, Any] = {
    "num_samples": "auto",
    "loss": Loss(batch_size=2),
    "solver": SWEEP,
    "num_eigenvalues": 2,
    "num_smallest": 1,
    "trace": True,
    "density": True,
    "parameter_blocks": "modules",
    "eigenvalues_per_block": 2,
    "overlaps": True,
    "every_n_train_steps": 5,
}
LITTLE = 5e-5
"""Its half has room for 42 vectors of 158 parameters, blocks in flight included."""
PYHESSIAN: dict[str, Any] = {
    "solver": PyHessian(eigenvalues_maxIter=2, trace_maxIter=2, density_iter=2),
    "trace": True,
    "density": True,
}


@pytest.mark.slow
@pytest.mark.sampled
@pytest.mark.parametrize(
    ("setting", "ours"),
    [
        pytest.param({}, EVERYTHING, id="everything"),
        # a loss that does not draw anew keeps its gradient graphs
        pytest.param(
            {
                "module": partial(HostileModule, noise=0.0),
                "data": partial(HostileData, noise=0.0),
                "accumulate_grad_batches": 3,
            },
            EVERYTHING | {"solver": replace(SWEEP, precision="fast_float32"), "mode": "train"},
            id="quiet, fast float32, train mode",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"precision": "bf16-mixed"},
            EVERYTHING | {"solver": replace(SWEEP, memory_limit=LITTLE, max_hvps=60)},
            id="little memory",
            marks=pytest.mark.slow,
        ),
        pytest.param({}, PYHESSIAN, id="pyhessian"),
    ],
)
def test_run_with_callback_is_bit_identical(
    setting: dict[str, Any], ours: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frozen_sample, "USUAL", 6)
    without = run(tmp_path / "without", **setting)
    callback = spectrum(**({"every_n_train_steps": 2} | ours))
    with_ours = run(tmp_path / "with", callback, **setting)
    assert differences(without, with_ours) == []
    assert len(callback.reports) >= 3
    assert all(report.failure is None for report in callback.reports)
    if "module" in setting and ours.get("mode") != "train":  # where statistics move
        assert all(report.graph_bytes > 0 for report in callback.reports)
    if getattr(ours["solver"], "memory_limit", None) == LITTLE:
        assert all("restarted" in " ".join(report.notes) for report in callback.reports)
    if ours is not PYHESSIAN:
        assert callback.reports[0].num_samples == 16
        assert any("The sample was made larger" in note for note in callback.reports[0].notes)
        assert all(len(report.blocks) for report in callback.reports)
        assert all(len(b.largest.values) for report in callback.reports for b in report.blocks)
        assert len(callback.reports[-1].overlap.cosines) == 2
