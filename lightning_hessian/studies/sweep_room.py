"""Whether a limit of memory has room for a sweep at all."""

from __future__ import annotations

from lightning_hessian.errors import RefusedError
from lightning_hessian.linalg import least_memory
from lightning_hessian.loss import SHARE, Conductor, TrainingLoss, free_memory
from lightning_hessian.options import GIBIBYTE, Krylov

ROUNDED_UP = 1.01
"""So that the number printed to three digits is enough when it is given."""


def sweep_memory(loss: TrainingLoss | Conductor, solver: Krylov) -> int:
    """Bytes for a sweep's vectors.

    Returns:
        What the user gives, or a share of what is free: of that never less than the least, which
        may still be there.

    Raises:
        RefusedError: If the user gives less than the fewest vectors take.
    """
    least, given = least_memory(loss), solver.memory_share
    if given is None:
        return max(int(SHARE * free_memory(loss.device)), least)
    if given < least and solver.basis != "cpu":
        needed = 2 * least / GIBIBYTE * ROUNDED_UP
        raise RefusedError(
            f"`memory_limit` must be at least {needed:.3g} GiB for {loss.size:,} parameters, as "
            "half of it has to hold 13 vectors of them, which the largest eigenvalue takes with "
            f"single probes; got {solver.memory_limit:g}. Give that, `basis='cpu'` for vectors in "
            "the host's memory, or `loss=Loss(parameters=...)` for a part of the parameters."
        )
    return given
