"""What leaves no trace in a run: state, random numbers, loggers, numerics put back bit by bit."""

from lightning_hessian.sandbox.bits import sum_of_bits
from lightning_hessian.sandbox.first_process import share_state
from lightning_hessian.sandbox.generators import global_generator_state, seed_global_generators
from lightning_hessian.sandbox.numerics import fast_float32_is_exact, in_precision
from lightning_hessian.sandbox.patching import replaced_attributes
from lightning_hessian.sandbox.sandbox import Sandbox
from lightning_hessian.sandbox.saved_objects import replaced
from lightning_hessian.sandbox.state import StateSnapshot

__all__ = [
    "Sandbox",
    "StateSnapshot",
    "fast_float32_is_exact",
    "global_generator_state",
    "in_precision",
    "replaced",
    "replaced_attributes",
    "seed_global_generators",
    "share_state",
    "sum_of_bits",
]
