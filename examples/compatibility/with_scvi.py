"""scvi-tools: a variational autoencoder of counts, by its own training plan."""

from __future__ import annotations

from typing import Any

import anndata
import numpy as np
import scvi

from examples.compatibility.case import Case
from lightning_hessian import Krylov

COUNTS = np.random.default_rng(0).poisson(3.0, size=(32, 8)).astype(np.float32)


def train(callbacks: list[Any]) -> Any:
    """A latent variable is drawn in every step."""
    scvi.settings.seed = 0
    cells = anndata.AnnData(COUNTS.copy())
    scvi.model.SCVI.setup_anndata(cells)
    model = scvi.model.SCVI(cells, n_hidden=4, n_latent=2)
    model.train(
        max_epochs=1,
        accelerator="cpu",
        batch_size=16,
        train_size=1.0,
        callbacks=callbacks,
        logger=False,
        enable_progress_bar=False,
    )
    return model.module


CASE = Case(
    "variational autoencoder, noise in the step", train, options={"solver": Krylov(max_hvps=60)}
)
