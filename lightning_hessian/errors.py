"""Reasons for which a measurement is not made."""

from __future__ import annotations

import re

_NUMBERS = re.compile(r"0x[0-9a-f]+|[-+]?\d[\d.,]*(e[-+]?\d+)?")


class RefusedError(RuntimeError):
    """The measurement cannot be made truthfully on this module or data, now or later in this fit.

    Everything else that goes wrong (out of memory, a loss that is not a number at this one point)
    keeps its own exception and is tried again at the next due measurement.
    """


class NoExactProductsError(RefusedError):
    """The loss has no second derivative by autograd, or a wrong one; its gradient is right."""


class IndependentLossError(RefusedError):
    """The loss does not depend on the parameters that it is to be differentiated by."""


class NoisyStepError(RefusedError):
    """The step draws random numbers, so that a sample alone has another loss than in its batch."""


class UntakenBatchError(RefusedError):
    """The step fails on batches that it must take for a measurement, each time alike."""


class InterruptedMeasurementError(RuntimeError):
    """A signal arrived: the measurement was abandoned so that the run can answer it."""


class RestorationError(RuntimeError):
    """The state from before a measurement could not be put back: the run must not go on."""


class NonFiniteError(ArithmeticError):
    """The loss, its gradient or a Hessian-vector product holds NaN or infinity at this point."""


class ProcessFailedError(RuntimeError):
    """Something went wrong on one of several processes; raised, with its reason, on all."""


class UnreadableCheckpointError(RuntimeError):
    """A file holds no weights that the module can be given, for the reason in the text."""


class StaleGraphError(RuntimeError):
    """A kept gradient graph cannot be used any more; what it was kept for is computed anew."""


class NoRoomError(RuntimeError):
    """A disk has no room for what a callback writes beside the run's own files."""


def without_numbers(text: str) -> str:
    """What stays of a reason when it is told again: no losses, no addresses."""
    return _NUMBERS.sub("", text)
