"""A training in which nearly everything draws random numbers or keeps state of its own."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tests.helpers.fitting import Classifier, classification_data


class Restless(Classifier):
    """Has dropout, running statistics, momentum and a schedule of learning rates."""

    def __init__(self) -> None:
        layers = (nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(0.2), nn.Linear(6, 3))
        super().__init__(nn.Sequential(*layers))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.7)]


class Shaken(torch.utils.data.Dataset[Any]):
    """Each sample is drawn with the global generators of torch, numpy and Python."""

    data = classification_data()

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        inputs, target = self.data[index]
        shake = np.random.rand() + random.random()  # noqa: NPY002
        return inputs + 0.01 * torch.randn(4) + 0.01 * shake, target
