"""A data-parallel run with the callback is the run without it, bit by bit, on every process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.strategies import DDPStrategy

from lightning_hessian import Loss
from tests.helpers.processes import in_processes
from tests.helpers.recording import differences, run, spectrum


@pytest.mark.sampled
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_the_run_of_each_process_is_the_one_without_measurements(tmp_path: Path, mode: Any) -> None:
    def part(rank: int) -> tuple[list[str], int, list[dict[str, Any]]]:
        fit: dict[str, Any] = {"devices": 2, "limit_val_batches": 0, "max_epochs": 1}

        def strategy() -> DDPStrategy:
            return DDPStrategy(process_group_backend="gloo")

        bare = run(tmp_path / "bare", strategy=strategy(), **fit)
        callback = spectrum(mode=mode, num_samples=9, loss=Loss(batch_size=3))
        measured = run(tmp_path / "measured", callback, strategy=strategy(), **fit)
        reports = [report.to_dict() for report in callback.reports]
        return differences(bare, measured), len(bare.records), reports

    (found, number, reports), (others_found, others_number, others_reports) = in_processes(part)
    assert found == others_found == []
    assert number == others_number > 4
    assert repr(reports) == repr(others_reports)  # nan equals nan
    assert [report["global_step"] for report in reports] == [0, 1, 2]
