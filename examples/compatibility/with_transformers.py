"""transformers: a GPT-2 from its configuration, on sentences of drawn tokens."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader
from transformers import GPT2Config, GPT2LMHeadModel

from examples.compatibility.case import Case
from examples.compatibility.own_module import OwnModule
from examples.compatibility.tokens import TOKENS

ROWS = [{"input_ids": row, "labels": row} for row in TOKENS]
SMALL = {"vocab_size": 10, "n_positions": 6, "n_embd": 4, "n_layer": 1, "n_head": 2}


def network() -> GPT2LMHeadModel:
    """Small enough for its dense Hessian."""
    return GPT2LMHeadModel(GPT2Config(**SMALL, bos_token_id=0, eos_token_id=0))


def batch_loss(network: Any, batch: dict[str, Tensor]) -> Tensor:
    """The network's own."""
    return network(**batch).loss


def train(callbacks: list[Any]) -> OwnModule:
    """Batches of unequal size."""
    loader = DataLoader(ROWS, batch_size=6, shuffle=True)
    return OwnModule(network(), batch_loss).fitted(loader, callbacks)


def loss(module: OwnModule) -> Tensor:
    """Cross-entropy of each next token."""
    logits = module.network(input_ids=TOKENS).logits
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), TOKENS[:, 1:].flatten())


CASE = Case("GPT-2, next tokens", train, loss)
