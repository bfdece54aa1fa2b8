"""litdata: a streaming data set of its own format, written and read on this machine."""

from __future__ import annotations

import functools
import tempfile
from typing import Any

import torch
from litdata import StreamingDataLoader, StreamingDataset
from litdata.streaming.writer import BinaryWriter
from torch import Tensor, nn
from torch.nn import functional as F

from examples.compatibility.case import Case
from examples.compatibility.own_module import OwnModule

ROWS = torch.randn(24, 4, generator=torch.Generator().manual_seed(0))


@functools.cache
def folder() -> tempfile.TemporaryDirectory[str]:
    """Of the rows in chunks; kept until the program ends."""
    made = tempfile.TemporaryDirectory()
    writer = BinaryWriter(made.name, chunk_size=6)
    for index, row in enumerate(ROWS):
        writer[index] = {"inputs": row[:3], "target": row[3:]}
    writer.done()
    writer.merge(1)
    return made


def batch_loss(network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Squared errors."""
    return F.mse_loss(network(batch["inputs"]), batch["target"])


def train(callbacks: list[Any]) -> OwnModule:
    """A small network on streamed rows."""
    network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    rows = StreamingDataset(folder().name, shuffle=False)
    return OwnModule(network, batch_loss).fitted(StreamingDataLoader(rows, batch_size=8), callbacks)


def loss(module: OwnModule) -> Tensor:
    """Over all rows at once."""
    rows = ROWS.double()
    return F.mse_loss(module.network(rows[:, :3]), rows[:, 3:])


CASE = Case("streamed rows", train, loss)
