"""lightly: SimCLR, whose loss compares the samples of a batch with each other."""

from __future__ import annotations

from typing import Any

import torch
from lightly.loss import NTXentLoss
from lightly.models.modules import SimCLRProjectionHead
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from examples.compatibility.case import Case
from examples.compatibility.own_module import OwnModule

DRAWN = torch.Generator().manual_seed(0)
VIEWS = torch.randn(2, 12, 1, 6, 6, generator=DRAWN)


def batch_loss(network: Any, batch: list[Tensor]) -> Tensor:
    """Between two views of each image, and the others'."""
    return NTXentLoss(temperature=0.5)(network(batch[0]), network(batch[1]))


def train(callbacks: list[Any]) -> OwnModule:
    """All images in one batch, so that the loss does not depend on who meets whom."""
    head = SimCLRProjectionHead(4, 4, 3, batch_norm=False)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head
    )
    loader = DataLoader(TensorDataset(*VIEWS), batch_size=12, shuffle=True)
    return OwnModule(network, batch_loss).fitted(loader, callbacks)


def loss(module: OwnModule) -> Tensor:
    """Each of the 24 views must find its pair among the 23 others."""
    views = F.normalize(module.network(VIEWS.double().flatten(0, 1)), dim=1)
    alike = views @ views.T / 0.5
    alike = alike.masked_fill(torch.eye(24, dtype=torch.bool), -torch.inf)
    return F.cross_entropy(alike, (torch.arange(24) + 12) % 24)


CASE = Case("SimCLR, contrastive", train, loss)
