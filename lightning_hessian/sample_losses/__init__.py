"""A batch's loss taken apart into those of its samples."""

from lightning_hessian.sample_losses.dealing import exchanged, halved
from lightning_hessian.sample_losses.divisors import Divisors
from lightning_hessian.sample_losses.filling import (
    AS_IT_IS,
    NOT_THE_STEPS,
    Filling,
    failure_on,
    named,
)
from lightning_hessian.sample_losses.frozen_noise import samples_keep_losses
from lightning_hessian.sample_losses.losses import (
    SampleLosses,
    held_out_losses,
    sample_losses,
    sample_losses_at,
    samples_evaluated,
)
from lightning_hessian.sample_losses.one_by_one import Positions
from lightning_hessian.sample_losses.remembered import RepeatedLosses
from lightning_hessian.sample_losses.rows import rows_of
from lightning_hessian.sample_losses.verified import Verified, samples_checked

__all__ = [
    "AS_IT_IS",
    "NOT_THE_STEPS",
    "Divisors",
    "Filling",
    "Positions",
    "RepeatedLosses",
    "SampleLosses",
    "Verified",
    "exchanged",
    "failure_on",
    "halved",
    "held_out_losses",
    "named",
    "rows_of",
    "sample_losses",
    "sample_losses_at",
    "samples_checked",
    "samples_evaluated",
    "samples_keep_losses",
]
