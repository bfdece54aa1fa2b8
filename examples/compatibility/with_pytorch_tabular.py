"""pytorch-tabular: embeddings of categories and a small network, by its own fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from pytorch_tabular import TabularModel
from pytorch_tabular.config import DataConfig, OptimizerConfig, TrainerConfig
from pytorch_tabular.models import CategoryEmbeddingModelConfig

from examples.compatibility.case import Case

DRAWN = np.random.default_rng(0)
FRAME = pd.DataFrame({"size": DRAWN.normal(size=32), "weight": DRAWN.normal(size=32),
                      "colour": np.tile(["red", "blue"], 16)})  # fmt: skip
FRAME["kind"] = np.where(FRAME["size"] + FRAME["weight"] > 0, "large", "small")


def train(callbacks: list[Any]) -> Any:
    """With dropout, and batch normalisation of the inputs."""
    tabular = TabularModel(
        data_config=DataConfig(
            target=["kind"], continuous_cols=["size", "weight"], categorical_cols=["colour"]
        ),
        model_config=CategoryEmbeddingModelConfig(task="classification", layers="4", dropout=0.1),
        optimizer_config=OptimizerConfig(),
        trainer_config=TrainerConfig(
            max_epochs=1,
            batch_size=8,
            accelerator="cpu",
            early_stopping=None,
            checkpoints=None,
            load_best=False,
            progress_bar="none",
            trainer_kwargs={"enable_model_summary": False},
        ),
        verbose=False,
    )
    tabular.fit(train=FRAME, validation=FRAME, callbacks=callbacks)
    return tabular.model


CASE = Case("embeddings of categories", train)
