"""Small modules of three kinds, as a user would write them."""

from __future__ import annotations

from itertools import pairwise

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from examples.demo import DigitsClassifier


class MnistClassifier(DigitsClassifier):
    """A fully connected network for images of 28 x 28 pixels."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.Flatten(), nn.Linear(28 * 28, width), nn.ReLU(), nn.Linear(width, 10)
        )


class ReluMlp(DigitsClassifier):
    """A fully connected network without biases, as in Kiselev & Grabovoy (2024).

    784 - ``width`` - ... - ``width`` - 10 with ReLU between, trained by Adam at 0.001.

    Args:
        width: Of every hidden layer, the paper's ``h``.
        depth: Square matrices between the hidden layers, as the paper's figures count ``L``. The
            network has ``depth + 1`` hidden layers and ``depth + 2`` matrices.
    """

    def __init__(self, width: int = 16, depth: int = 5) -> None:
        super().__init__()
        widths = [28 * 28, *[width] * (depth + 1)]
        layers: list[nn.Module] = [nn.Flatten()]
        for inputs, outputs in pairwise(widths):
            layers += [nn.Linear(inputs, outputs, bias=False), nn.ReLU()]
        self.network = nn.Sequential(*layers, nn.Linear(width, 10, bias=False))

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Cross-entropy of held-out images."""
        images, labels = batch
        self.log("val_loss", F.cross_entropy(self.network(images), labels))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The paper's."""
        return torch.optim.Adam(self.parameters(), lr=1e-3)


class ConvNet(DigitsClassifier):
    """Three convolutions with BatchNorm, and dropout, for images of 28 x 28 pixels."""

    def __init__(self, channels: int = 8, dropout: float = 0.1) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 1
        for outputs in (channels, 2 * channels, 2 * channels):
            layers += [
                nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(),
            ]
            inputs = outputs
        self.network = nn.Sequential(
            *layers, nn.Flatten(), nn.Dropout(dropout), nn.Linear(16 * inputs, 10)
        )


class TanhRegressor(pl.LightningModule):
    """A small tanh network that is fitted to one-hot labels by squared error: smooth, and not deep.

    Args:
        optimizer: ``SGD``, ``Adam`` or ``RMSprop``, of ``torch.optim``.
        lr: Its learning rate.
        momentum: Of SGD and RMSprop.
    """

    def __init__(self, optimizer: str = "SGD", lr: float = 1.0, momentum: float = 0.0) -> None:
        super().__init__()
        self.optimizer, self.lr, self.momentum = optimizer, lr, momentum
        self.network = nn.Sequential(nn.Linear(64, 24), nn.Tanh(), nn.Linear(24, 10))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Mean squared error over images and outputs."""
        loss = self.squared_error(*batch)
        self.log("train_loss", loss)
        return loss

    def squared_error(self, images: Tensor, labels: Tensor) -> Tensor:
        """Without a Trainer, too."""
        return F.mse_loss(self.network(images), F.one_hot(labels, 10).to(images.dtype))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The one that was asked for, with its own defaults otherwise."""
        kinds = {"SGD": torch.optim.SGD, "Adam": torch.optim.Adam, "RMSprop": torch.optim.RMSprop}
        options = {"momentum": self.momentum} if self.momentum else {}
        return kinds[self.optimizer](self.parameters(), lr=self.lr, **options)


class SmallGpt(pl.LightningModule):
    """A causal transformer that predicts the next byte of a text."""

    def __init__(self, context: int = 16, width: int = 16, depth: int = 2, heads: int = 2) -> None:
        super().__init__()
        self.symbols = nn.Embedding(128, width)
        self.positions = nn.Parameter(0.02 * torch.randn(context, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 128)

    def forward(self, symbols: Tensor) -> Tensor:
        """Scores ``(batch, length, 128)`` of the next byte, from ``(batch, length)`` bytes."""
        hidden = self.symbols(symbols) + self.positions[: symbols.shape[1]]
        for block in self.blocks:
            hidden = block(hidden)
        return self.head(self.norm(hidden))

    def training_step(self, batch: tuple[Tensor], batch_idx: int) -> Tensor:
        """Cross-entropy per byte."""
        (symbols,) = batch
        scores = self(symbols[:, :-1])
        loss = F.cross_entropy(scores.flatten(0, 1), symbols[:, 1:].flatten())
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW, whose weight decay is not part of the loss."""
        return torch.optim.AdamW(self.parameters(), lr=1e-3, weight_decay=0.1)


class Block(nn.Module):
    """Attention to what came before, then a small network at each place."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.attention = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, hidden: Tensor) -> Tensor:
        """Both with a residual connection."""
        queries, keys, values = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.attention(self.norms[0](hidden)).chunk(3, dim=-1)
        )
        mixed = F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        hidden = hidden + self.project(mixed.transpose(1, 2).flatten(2))
        return hidden + self.mlp(self.norms[1](hidden))
