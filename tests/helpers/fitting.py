"""A small Lightning module, its data, and a Trainer that is quiet."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


class Classifier(pl.LightningModule):
    """Any network under a cross-entropy loss, trained by plain SGD."""

    def __init__(self, network: nn.Module | None = None, lr: float = 0.1) -> None:
        super().__init__()
        self.network = network or nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
        self.lr = lr

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        inputs, targets = batch
        loss = F.cross_entropy(self.network(inputs), targets)
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.lr)


def classification_data(count: int = 26, features: int = 4, classes: int = 3) -> TensorDataset:
    """Gaussian inputs with random labels."""
    generator = torch.Generator().manual_seed(7)
    inputs = torch.randn(count, features, generator=generator)
    targets = torch.randint(classes, (count,), generator=generator)
    return TensorDataset(inputs, targets)


def loader(dataset: Any = None, batch_size: int = 8, **options: Any) -> DataLoader[Any]:
    """A training loader; the default data leaves a last batch of two."""
    return DataLoader(dataset or classification_data(), batch_size=batch_size, **options)


def trainer(*callbacks: pl.Callback, **options: Any) -> pl.Trainer:
    """A Trainer on the CPU that writes and prints nothing unless told to."""
    quiet: dict[str, Any] = {
        "accelerator": "cpu",
        "max_epochs": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return pl.Trainer(callbacks=list(callbacks), **(quiet | options))
