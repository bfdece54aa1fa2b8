"""A run on a stream is the same with the callback, which captures or is given its batches."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader, IterableDataset

from lightning_hessian import Loss
from tests.helpers.hostile import HostileData, HostileDataset
from tests.helpers.recording import differences, run, spectrum


class Positioned(IterableDataset[Any]):
    """Goes on where it stood, and draws from generators of its own and of all the world."""

    def __init__(self) -> None:
        self.source, self.position = HostileDataset(), 0

    def __iter__(self) -> Iterator[Any]:
        for _ in range(10):
            self.position += 1
            yield self.source[self.position % len(self.source)]


class StreamedData(HostileData):
    """The hostile data as a stream; batches of the validation set for measurements, if wanted."""

    def __init__(self) -> None:
        super().__init__()
        self.train_set = Positioned()  # type: ignore[assignment]

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.train_set, batch_size=self.batch_size, collate_fn=self.collate)


class WithHook(StreamedData):
    def hessian_dataloader(self) -> Any:
        self.transfers += 1
        return DataLoader(Positioned(), batch_size=3, collate_fn=self.collate)


class Combined(HostileData):
    """Two loaders over one hostile set, of which the step takes the shuffled one."""

    def train_dataloader(self) -> Any:
        shuffled = super().train_dataloader()
        return {"batch": shuffled, "other": DataLoader(self.train_set, batch_size=3)}

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        if not isinstance(batch.get("batch"), dict):
            return batch  # of validation
        batch["batch"]["x"] += 0.01 * batch["other"]["x"].mean()
        return batch["batch"]


@pytest.mark.sampled
@pytest.mark.parametrize(("data", "first"), [(StreamedData, 2), (WithHook, 0), (Combined, 0)])
@pytest.mark.filterwarnings("ignore:.*`IterableDataset` has `__len__` defined.*")
def test_run_on_a_stream_or_a_collection_is_bit_identical(
    data: Any, first: int, tmp_path: Path
) -> None:
    without = run(tmp_path / "without", data=data)
    callback = spectrum(num_samples=6, loss=Loss(weight_fn=lambda batch: len(batch["y"])))
    if data is Combined:
        callback = spectrum(num_samples=6)
    with_ours = run(tmp_path / "with", callback, data=data)
    assert differences(without, with_ours) == []
    steps = [report.global_step for report in callback.reports]
    assert steps == list(itertools.takewhile(lambda s: s <= steps[-1], itertools.count(first)))
    assert all(report.failure is None for report in callback.reports)
