"""The module that a person writes around a network of a package's, and a few steps of training."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from examples.compatibility.case import QUIET


class OwnModule(pl.LightningModule):
    """Trains a network by a loss of network and batch.

    Args:
        network: Of a package's.
        batch_loss: Of the network and a batch.
    """

    def __init__(self, network: nn.Module, batch_loss: Callable[[Any, Any], Tensor]) -> None:
        super().__init__()
        self.network = network
        self.batch_loss = batch_loss

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The loss, logged."""
        loss = self.batch_loss(self.network, batch)
        self.log("loss", loss.detach(), batch_size=1)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Plain Adam."""
        return torch.optim.Adam(self.parameters(), lr=0.01)

    def fitted(self, loader: Iterable[Any], callbacks: list[Any]) -> OwnModule:
        """Itself, after an epoch."""
        pl.Trainer(**QUIET, max_epochs=1, callbacks=callbacks).fit(self, loader)
        return self
