"""The losses of the same samples again and again, verified in full only once."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from lightning_hessian.data import FrozenBatches
from lightning_hessian.errors import without_numbers
from lightning_hessian.loss import Conductor, TrainingLoss
from lightning_hessian.sample_losses.filling import NOT_THE_STEPS, named, refuse_some
from lightning_hessian.sample_losses.losses import (
    SampleLosses,
    held_out_losses,
    sample_losses,
)
from lightning_hessian.sample_losses.verified import Verified


class RepeatedLosses:
    """Remembers what was verified, for as long as the frozen samples of a fit are there.

    Another fit has frozen samples of its own, and so has one whose sample has grown. A copy, and
    what comes out of a pickle, remembers nothing. An error of the step that comes back the second
    time is a refusal.

    Args:
        may_regroup: Whether samples may be evaluated in larger batches than training has.
    """

    def __init__(self, *, may_regroup: bool = True) -> None:
        self._may_regroup = may_regroup
        self._begin()

    def of(self, loss: TrainingLoss | Conductor) -> SampleLosses:
        """Of the frozen samples, see :func:`sample_losses`."""
        known = self._frozen.get(loss.sample)
        try:
            found = sample_losses(loss, known, may_regroup=self._may_regroup)
        except NOT_THE_STEPS:
            raise
        except Exception as error:
            reason = without_numbers(named(error))
            if self._failures.get(loss.sample) == reason:
                raise refuse_some(error) from error
            self._failures[loss.sample] = reason
            raise
        self._frozen[loss.sample] = found.verified
        return found

    def held_out(self, loss: TrainingLoss | Conductor) -> tuple[SampleLosses, str] | None:
        """Of those that training does not see, see :func:`held_out_losses`."""
        known = self._held_out.get(loss.sample)
        found = held_out_losses(loss, known, may_regroup=self._may_regroup)
        if found is not None:
            self._held_out[loss.sample] = found[0].verified
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {"may_regroup": self._may_regroup}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._may_regroup = state["may_regroup"]
        self._begin()

    def _begin(self) -> None:
        self._failures: WeakKeyDictionary[FrozenBatches, str] = WeakKeyDictionary()
        self._frozen: WeakKeyDictionary[FrozenBatches, Verified | None] = WeakKeyDictionary()
        self._held_out: WeakKeyDictionary[FrozenBatches, Verified | None] = WeakKeyDictionary()
