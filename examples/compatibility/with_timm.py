"""timm: a vision transformer from its constructor, on drawn images."""

from __future__ import annotations

from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from examples.compatibility.case import Case
from examples.compatibility.own_module import OwnModule

DRAWN = torch.Generator().manual_seed(0)
IMAGES, CLASSES = torch.randn(16, 1, 8, 8, generator=DRAWN), torch.arange(16) % 3
SMALL = {"img_size": 8, "patch_size": 4, "in_chans": 1, "num_classes": 3, "embed_dim": 4}


def batch_loss(network: Any, batch: list[Tensor]) -> Tensor:
    """Of a batch of images."""
    return F.cross_entropy(network(batch[0]), batch[1])


def train(callbacks: list[Any]) -> OwnModule:
    """With dropout of paths and of projections."""
    network = VisionTransformer(
        **SMALL, depth=1, num_heads=2, drop_path_rate=0.1, proj_drop_rate=0.1
    )
    loader = DataLoader(TensorDataset(IMAGES, CLASSES), batch_size=6, shuffle=True)
    return OwnModule(network, batch_loss).fitted(loader, callbacks)


def loss(module: OwnModule) -> Tensor:
    """Over all images at once."""
    return F.cross_entropy(module.network(IMAGES.double()), CLASSES)


CASE = Case("vision transformer with dropout", train, loss)
