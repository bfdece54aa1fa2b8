"""A batch's loss taken apart into those of its samples."""

from lightning_hessian.sample_losses.divisors import Divisors
from lightning_hessian.sample_losses.frozen_noise import samples_keep_losses
from lightning_hessian.sample_losses.losses import (
    SampleLosses,
    Verified,
    held_out_losses,
    sample_losses,
    sample_losses_at,
    samples_checked,
    samples_evaluated,
)
from lightning_hessian.sample_losses.one_by_one import Positions
from lightning_hessian.sample_losses.remembered import RepeatedLosses
from lightning_hessian.sample_losses.rows import halved, rows_of

__all__ = [
    "Divisors",
    "Positions",
    "RepeatedLosses",
    "SampleLosses",
    "Verified",
    "halved",
    "held_out_losses",
    "rows_of",
    "sample_losses",
    "sample_losses_at",
    "samples_checked",
    "samples_evaluated",
    "samples_keep_losses",
]
