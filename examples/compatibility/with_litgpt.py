"""litgpt: a GPT from its configuration."""

from __future__ import annotations

from typing import Any

from litgpt import GPT, Config
from litgpt.utils import chunked_cross_entropy
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from examples.compatibility.case import Case
from examples.compatibility.own_module import OwnModule
from examples.compatibility.tokens import TOKENS

SMALL = {"block_size": 6, "vocab_size": 10, "n_layer": 1, "n_head": 2, "n_embd": 4}


def batch_loss(network: Any, batch: list[Tensor]) -> Tensor:
    """By the package's loss in pieces."""
    (tokens,) = batch
    return chunked_cross_entropy(network(tokens)[:, :-1], tokens[:, 1:])


def train(callbacks: list[Any]) -> OwnModule:
    """Rotary positions, no padding of the vocabulary."""
    network = GPT(Config(**SMALL, padded_vocab_size=10, intermediate_size=8))
    loader = DataLoader(TensorDataset(TOKENS), batch_size=6, shuffle=True)
    return OwnModule(network, batch_loss).fitted(loader, callbacks)


def loss(module: OwnModule) -> Tensor:
    """Cross-entropy of each next token."""
    logits = module.network(TOKENS)[:, :-1]
    return F.cross_entropy(logits.flatten(0, 1), TOKENS[:, 1:].flatten())


CASE = Case("GPT, rotary positions", train, loss)
