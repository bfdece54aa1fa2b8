"""The networks of one width: their losses at the end, and the points where some of them are."""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from examples.band_claims import Floats
from examples.band_networks import Images, train
from lightning_hessian.hvp import open_loss
from lightning_hessian.loss import TrainingLoss
from lightning_hessian.options import Krylov, PointOptions
from lightning_hessian.studies import CriticalPointStudy

BLOCK = 128
"""Products at once."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """Where one training ended, of the loss on all training samples, in float64.

    Attributes:
        num_parameters: Of the network.
        loss: There.
        gradient_norm: ``|g|``.
        gradient_left: ``r(1 %)``, near 0 beside a critical point, near 1 where none is.
        index: Lower and upper bound of the share of negative eigenvalues, by three thresholds.
        is_counted: Whether all eigenvalues were computed; the bounds are then one number.
    """

    num_parameters: int
    loss: float
    gradient_norm: float
    gradient_left: float
    index: dict[str, tuple[float, float]]
    is_counted: bool


def point(network: nn.Module, data: tuple[Tensor, Tensor], most_counted: int) -> Point:
    """What kind of point a network is at.

    Its index is counted where it has at most ``most_counted`` parameters, for as many products.
    """
    images, labels = data

    def step(batch: tuple[Tensor, Tensor], _index: int) -> Tensor:
        return F.cross_entropy(network(batch[0]), batch[1])

    study = CriticalPointStudy(PointOptions(escape=False, solver=Krylov(max_hvps=200)), seed=0)
    with open_loss(network, step, [(images.double(), labels)], dtype=torch.float64) as loss:
        report = study.measure(loss)
        index = {each.name: each.bracket for each in report.indices}
        is_counted = loss.size <= most_counted
        if is_counted:
            values = dense_eigenvalues(loss)
            shares = {
                e.name: float((values < -e.threshold).double().mean()) for e in report.indices
            }
            index = {name: (share, share) for name, share in shares.items()}
    return Point(
        num_parameters=report.num_parameters,
        loss=report.loss,
        gradient_norm=report.gradient_norm,
        gradient_left=report.gradient_left,
        index=index,
        is_counted=is_counted,
    )


def dense_eigenvalues(loss: TrainingLoss) -> Tensor:
    """``(P,)`` all of the Hessian's, from one product a parameter."""
    identity = torch.eye(loss.size, dtype=loss.dtype)
    columns = [loss.products.matmat(part.contiguous()) for part in identity.split(BLOCK, dim=1)]
    hessian = torch.cat(columns, dim=1)
    return torch.linalg.eigvalsh((hessian + hessian.mT) / 2)


@dataclass(frozen=True, kw_only=True)
class Band:
    """All networks of one width.

    Attributes:
        width: Of the hidden layer.
        epochs: Of the training.
        train: ``(S,)`` losses at the end, on what was trained on.
        test: ``(S,)`` on what was held out.
        points: Where the first of them are.
    """

    width: int
    epochs: int
    train: Floats
    test: Floats
    points: list[Point]

    @property
    def pairs(self) -> Floats:
        """``(S, 2)``."""
        return np.stack([self.train, self.test], axis=1)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"train": self.train.tolist(), "test": self.test.tolist()}


def run_band(images: Images, width: int, epochs: int, options: argparse.Namespace) -> Band:
    """Train the networks of one width, and measure where the first of them end."""
    networks = train(
        images.train,
        width=width,
        count=options.networks,
        epochs=epochs,
        rate=options.rate,
        seed=width,
    )
    with torch.no_grad():
        losses = [
            networks.losses(inputs[None], labels[None]).double().numpy()
            for inputs, labels in (images.train, images.test)
        ]
    points = [
        point(networks.module(index), images.train, options.most_counted)
        for index in range(min(options.points, options.networks))
    ]
    return Band(width=width, epochs=epochs, train=losses[0], test=losses[1], points=points)
