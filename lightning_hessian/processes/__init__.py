"""The processes that share a measurement: sums, and agreement on what went wrong."""

from lightning_hessian.processes.group import (
    Processes,
    SingleProcess,
    any_process,
    enter_on_all,
    on_all_or_none,
    processes_of,
)

__all__ = [
    "Processes",
    "SingleProcess",
    "any_process",
    "enter_on_all",
    "on_all_or_none",
    "processes_of",
]
