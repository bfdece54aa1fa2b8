"""The processes that share a measurement: sums, and agreement on what went wrong."""

from lightning_hessian.processes.group import (
    Alone,
    Processes,
    agreed,
    anywhere,
    entered_together,
    processes_of,
)

__all__ = [
    "Alone",
    "Processes",
    "agreed",
    "anywhere",
    "entered_together",
    "processes_of",
]
