"""Hessians of networks on which a naive double backward fails, against gradient differences."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from tests.helpers import hard_modules as hard

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "attention": hard.Attention,
    "transformer encoder": hard.Encoder,
    "LSTM": lambda: hard.Recurrent(nn.LSTM),
    "GRU": lambda: hard.Recurrent(nn.GRU),
    "sparse embedding": hard.SparseEmbedding,
    "non-reentrant checkpoint": lambda: hard.Checkpointed(use_reentrant=False),
    "low rank": hard.LowRank,
    "tied": hard.Tied,
    "unused": hard.WithUnused,
    "batch norm": lambda: hard.mlp(nn.BatchNorm1d(5)),
    "layer norm": lambda: hard.mlp(nn.LayerNorm(5)),
    "group norm": lambda: hard.mlp(nn.GroupNorm(1, 5)),
    "spectral norm": lambda: hard.mlp(wrap=parametrizations.spectral_norm),
    "old spectral norm": lambda: hard.mlp(wrap=nn.utils.spectral_norm),
    # not by reflections: those count the sign of a diagonal, where differences see a jump
    "orthogonal": lambda: hard.mlp(
        wrap=lambda layer: parametrizations.orthogonal(layer, orthogonal_map="matrix_exp")
    ),
    "compiled part": lambda: hard.mlp(wrap=lambda layer: torch.compile(layer, backend="aot_eager")),
}
for dim in (0, 1, None):
    for old in (True, False):
        kind = "old weight norm" if old else "weight norm"
        NETWORKS[f"{kind} over {dim}"] = lambda dim=dim, old=old: hard.mlp(
            wrap=hard.weight_normed("weight", dim, old=old)
        )
NETWORKS["weight norm of a vector"] = lambda: hard.mlp(
    hard.weight_normed("weight", 0, old=False)(nn.LayerNorm(5))
)


def quiet(make: Callable[[], nn.Module]) -> Any:
    """Torch announces that the hook-based norms will go."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return hard.seeded(make)


@pytest.mark.sampled
@pytest.mark.parametrize("name", NETWORKS)
def test_products_equal_differences_of_gradients(name: str) -> None:
    wanted = hard.hessian_by_differences(quiet(NETWORKS[name]))
    double = hard.measure(quiet(NETWORKS[name]), precision=64)
    single = hard.measure(quiet(NETWORKS[name]))
    # float64: what the differences are good for; float32: some hundred roundings
    assert hard.off_by(double.matrix, wanted) < 1e-8
    assert hard.off_by(single.matrix, wanted) < 3e-5
    assert single.matrix.dtype == torch.float32
    assert double.notes == single.notes == ()
