"""peft: low-rank adapters of a GPT-2 from its configuration; all else is frozen."""

from __future__ import annotations

from typing import Any

from peft import LoraConfig, get_peft_model
from torch.utils.data import DataLoader

from examples.compatibility.case import Case
from examples.compatibility.own_module import OwnModule
from examples.compatibility.with_transformers import ROWS, batch_loss, loss, network


def train(callbacks: list[Any]) -> OwnModule:
    """Adapters of the attention alone are trained."""
    adapters = LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True, lora_dropout=0.1)
    adapted = get_peft_model(network(), adapters)
    return OwnModule(adapted, batch_loss).fitted(DataLoader(ROWS, batch_size=6), callbacks)


CASE = Case("LoRA of GPT-2", train, loss)
