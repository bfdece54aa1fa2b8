"""segmentation_models_pytorch: a U-Net with its Dice loss, which is no mean over samples."""

from __future__ import annotations

from typing import Any

import segmentation_models_pytorch as smp
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from examples.compatibility.case import Case
from examples.compatibility.own_module import OwnModule
from lightning_hessian import Krylov, Loss

DRAWN = torch.Generator().manual_seed(0)
IMAGES = torch.randn(8, 1, 16, 16, generator=DRAWN)
MASKS = (IMAGES > 0).float()


def batch_loss(network: Any, batch: list[Tensor]) -> Tensor:
    """Dice, over all pixels of a batch."""
    return smp.losses.DiceLoss("binary")(network(batch[0]), batch[1])


def train(callbacks: list[Any]) -> OwnModule:
    """All images a batch; then all else than the head is frozen, for the dense Hessian."""
    network = smp.Unet("resnet18", encoder_weights=None, encoder_depth=3, in_channels=1,
                       decoder_channels=(8, 8, 8))  # fmt: skip
    loader = DataLoader(TensorDataset(IMAGES, MASKS), batch_size=8, shuffle=True)
    module = OwnModule(network, batch_loss).fitted(loader, callbacks)
    network.requires_grad_(False)
    network.segmentation_head.requires_grad_(True)
    return module


def loss(module: OwnModule) -> Tensor:
    """One less twice the overlap over the sum."""
    shares, masks = module.network(IMAGES.double()).sigmoid(), MASKS.double()
    return 1 - 2 * (shares * masks).sum() / (shares.sum() + masks.sum()).clamp_min(1e-7)


CASE = Case(
    "U-Net, Dice, the Hessian of the head",
    train,
    loss,
    {"loss": Loss(parameters=["network.segmentation_head.*"]), "solver": Krylov(max_hvps=100)},
)
