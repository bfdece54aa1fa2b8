"""What a loss is set up by, from options of which some are the loss's own."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from lightning_hessian.options import Loss, LossSetup

OF_THE_LOSS = {field.name for field in fields(Loss)}


def loss_setup(**options: Any) -> LossSetup:
    """A setup on all samples unless told otherwise; options of ``Loss`` go where they belong."""
    own = {name: options.pop(name) for name in OF_THE_LOSS & options.keys()}
    return LossSetup(loss=Loss(**own), **({"num_samples": "all"} | options))
