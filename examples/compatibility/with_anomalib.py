"""anomalib: a normalising flow over features of a frozen network, on drawn images."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch
from anomalib.data import ImageBatch
from anomalib.models import Fastflow
from torch.utils.data import DataLoader

from examples.compatibility.case import QUIET, Case
from lightning_hessian import Krylov

IMAGES = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def collate(rows: list[torch.Tensor]) -> ImageBatch:
    """The package's own batch, of images without a fault."""
    images = torch.stack(rows)
    return ImageBatch(image=images, gt_label=torch.zeros(len(images), dtype=torch.bool))


def train(callbacks: list[Any]) -> Fastflow:
    """The features are drawn, not those of the package's hub."""
    pre_processor = Fastflow.configure_pre_processor(image_size=(32, 32))
    module = Fastflow(
        pre_trained=False,
        flow_steps=1,
        pre_processor=pre_processor,
        post_processor=False,
        evaluator=False,
        visualizer=False,
    )
    loader = DataLoader(list(IMAGES), batch_size=2, collate_fn=collate)
    pl.Trainer(**QUIET, max_epochs=1, callbacks=callbacks).fit(module, loader)
    return module


# in eval mode the network gives maps of anomalies, of which there is no loss
OPTIONS = {"mode": "train", "solver": Krylov(max_hvps=8), "density": False}
CASE = Case("normalising flow", train, options=OPTIONS)
