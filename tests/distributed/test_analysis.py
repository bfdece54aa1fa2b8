"""Checkpoints are analysed by the processes together, and what one cannot read none measures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lightning_hessian import Loss
from tests.helpers.checkpoints import ByEpochAndStep, analyzed, fitted, numbers
from tests.helpers.fitting import trainer
from tests.helpers.processes import ddp_trainer, in_processes
from tests.helpers.spectrum import spectrum


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    fitted(tmp_path, ByEpochAndStep(), saver={"save_last": True})
    (tmp_path / "broken.ckpt").write_bytes(b"junk")
    return tmp_path


def everything(folder: Path, module: Any, run: Any) -> list[Any]:
    return analyzed(
        module, folder, trainer=run, sidecar=True, callback=spectrum(loss=Loss(batch_size=4))
    )


def test_two_processes_report_what_one_does(folder: Path) -> None:
    def part(rank: int) -> Any:
        return [numbers(r) for r in everything(folder, ByEpochAndStep(), ddp_trainer())]

    first, second = in_processes(part)
    assert first == second
    with pytest.warns(UserWarning, match="is skipped"):
        alone = everything(folder, ByEpochAndStep(), trainer())
    assert [report["failure"] for report in first] == [repr(r.failure) for r in alone]
    for report, expected in zip(first, alone, strict=True):
        assert float(report["loss"]) == pytest.approx(expected.loss, rel=1e-12, nan_ok=True)
    assert len(list(folder.glob("*.json"))) == 3


def test_a_file_that_one_process_cannot_read_hangs_none(folder: Path) -> None:
    class Elsewhere(ByEpochAndStep):
        def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            if checkpoint["global_step"] == 3 and self.trainer.global_rank == 1:
                raise OSError("no such device")

    def part(rank: int) -> Any:
        return [r.failure for r in everything(folder, Elsewhere(), ddp_trainer())]

    for failures in in_processes(part):
        assert failures[:2] == [None, None]
        assert any("another process cannot read it" in str(failure) for failure in failures[2:])
        assert any("it is damaged" in str(failure) for failure in failures[2:])
