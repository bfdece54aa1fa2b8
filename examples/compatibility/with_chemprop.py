"""chemprop: its message passing network on a few molecules, by its own module and loader."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch
from chemprop import data, models, nn
from torch import Tensor

from examples.compatibility.case import QUIET, Case

MOLECULES = ("CCO", "CCN", "CCC", "c1ccccc1", "CC(=O)O", "CCCl", "C1CCCCC1", "OCCO", "CC#N", "CCOC")


def rows() -> data.MoleculeDataset:
    """Each molecule with a number of its own."""
    points = [
        data.MoleculeDatapoint.from_smi(smiles, [float(len(smiles)) / 4 - 1])
        for smiles in MOLECULES
    ]
    return data.MoleculeDataset(points)


def train(callbacks: list[Any]) -> models.MPNN:
    """An epoch of its own warm-up."""
    module = models.MPNN(
        nn.BondMessagePassing(d_h=4, depth=2),
        nn.MeanAggregation(),
        nn.RegressionFFN(input_dim=4, hidden_dim=4, n_layers=1),
        batch_norm=False,
    )
    loader = data.build_dataloader(rows(), batch_size=4, seed=0)
    pl.Trainer(**QUIET, max_epochs=1, callbacks=callbacks).fit(module, loader)
    return module


def loss(module: models.MPNN) -> Tensor:
    """Squared errors of the predictions, over all molecules."""
    batch = data.collate_batch(list(rows()))
    batch.bmg.V, batch.bmg.E = batch.bmg.V.double(), batch.bmg.E.double()
    return (module(batch.bmg) - torch.as_tensor(batch.Y).double()).square().mean()


CASE = Case("message passing, regression", train, loss)
