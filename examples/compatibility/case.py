"""What the program of a package says: what it trains, how, and what its loss is in plain words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

Training = Callable[[list[Any]], Any]
"""Trains a module of the package's with these callbacks from scratch, and returns it."""

QUIET: Mapping[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
"""Of a Trainer that leaves nothing behind."""


@dataclass(frozen=True)
class Case:
    """A training of a package's own module.

    Attributes:
        title: What is trained, in a few words.
        train: See :data:`Training`; random numbers are seeded before each call.
        loss: The mean training loss of a module in float64 over all samples, written without this
            library; None where it draws random numbers, or cannot be written in a few lines.
        options: Of ``HessianSpectrum``, beside those of every case.
    """

    title: str
    train: Training
    loss: Callable[[Any], Tensor] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
