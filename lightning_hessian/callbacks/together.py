"""One measurement by all processes of a fit, of which none can come to another outcome."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import nn

from lightning_hessian.callbacks.fit_objective import FitObjective
from lightning_hessian.objective import Conductor, TrainingLoss, conduct
from lightning_hessian.objective.processes import Processes, agreed
from lightning_hessian.objective.sharing import sum_of_bits


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a measurement gave, the same on all processes.

    Attributes:
        thing: Whatever was measured.
        seconds: Wall time on the first process.
        notes: From the self-check.
    """

    thing: Any
    seconds: float
    notes: tuple[str, ...]


def measure_together(
    objective: FitObjective, measure: Callable[[TrainingLoss | Conductor], Any]
) -> Measured:
    """Open the objective and measure, on all processes at the same time.

    Args:
        objective: This process's.
        measure: Run on the first process.

    Returns:
        The outcome; or raises, on all processes the same.
    """
    start = time.perf_counter()
    with objective.opened() as loss:
        thing = conduct(loss, objective.processes, measure)
    seconds = objective.processes.broadcast(time.perf_counter() - start)
    return Measured(thing=thing, seconds=seconds, notes=objective.check_notes)


def place(trainer: Trainer, module: nn.Module, processes: Processes) -> tuple[int, ...]:
    """Where the first process's weights are: tells a step apart after weights were exchanged.

    Args:
        trainer: Running the fit.
        module: Of this process.
        processes: Each calls this at the same time.

    Returns:
        The global step and a sum of each parameter's bits.
    """

    def own() -> tuple[int, ...]:
        bits = (
            sum_of_bits(parameter)
            for parameter in module.parameters()
            if parameter.layout == torch.strided and not nn.parameter.is_lazy(parameter)
        )
        return (trainer.global_step, *bits)

    return processes.broadcast(agreed(processes, own))
