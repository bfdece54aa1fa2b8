"""diffusers: a denoising network; every step draws noise and times."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import DDPMScheduler, UNet2DModel
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from examples.compatibility.case import Case
from examples.compatibility.own_module import OwnModule
from lightning_hessian import Krylov

IMAGES = torch.randn(8, 1, 4, 4, generator=torch.Generator().manual_seed(0))
SCHEDULE = DDPMScheduler(num_train_timesteps=10)


def batch_loss(network: Any, batch: list[Tensor]) -> Tensor:
    """The noise that was added, guessed."""
    (images,) = batch
    noise = torch.randn_like(images)
    times = torch.randint(10, (len(images),))
    return F.mse_loss(network(SCHEDULE.add_noise(images, noise, times), times).sample, noise)


def train(callbacks: list[Any]) -> OwnModule:
    """One level, four channels."""
    network = UNet2DModel(sample_size=4, in_channels=1, out_channels=1, layers_per_block=1,
                          block_out_channels=(4,), norm_num_groups=2,
                          down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",),
                          add_attention=False)  # fmt: skip
    loader = DataLoader(TensorDataset(IMAGES), batch_size=4, shuffle=True)
    return OwnModule(network, batch_loss).fitted(loader, callbacks)


CASE = Case("diffusion, noise in the step", train, options={"solver": Krylov(max_hvps=40)})
