"""Sentences of drawn tokens."""

from __future__ import annotations

import torch

TOKENS = torch.randint(10, (16, 6), generator=torch.Generator().manual_seed(0))
