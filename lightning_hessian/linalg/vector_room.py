"""How many vectors a memory limit has room for, and what is cut down where these are few."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from lightning_hessian.linalg.basis import vector_bytes
from lightning_hessian.linalg.operator import Shaped
from lightning_hessian.linalg.stopping import Tolerances
from lightning_hessian.linalg.task import Task
from lightning_hessian.linalg.trace import NUM_PILOT
from lightning_hessian.records import Note

WORKING_BLOCKS = 4
"""Blocks beside the basis: products, remainder, next block, and one of the operator's."""
WORKING_VECTORS = 8
"""Vectors beside narrow blocks: two columns at a time in double precision, and their source."""
FEWEST_VECTORS = 3
"""One wanted, and two blocks of one: with fewer a restart would have nothing to go on from."""
FEWEST_PRODUCTS = 4
"""One for an end, one for its bound, one for the trace, and one for the density."""


def vectors_that_fit(task: Task, memory_limit: int, *, kind: Literal["full", "bfloat16"]) -> int:
    """How many basis vectors a limit in bytes leaves room for, beside the blocks in flight."""
    # negative where not even those fit; the model and the graph of its loss come on top
    kept = _num_ends(task.asked) if task.vectors else 0
    return room_for(task.operator, memory_limit, width=task.width, kept=kept, kind=kind)


def room_for(
    operator: Shaped,
    memory_limit: int,
    *,
    width: int,
    kept: int,
    kind: Literal["full", "bfloat16"] = "full",
) -> int:
    """The same of a sweep by blocks of a width, of which so many vectors are given away."""
    flying = _in_flight(width, kept) * vector_bytes("full", operator)
    return (memory_limit - flying) // vector_bytes(kind, operator)


def least_memory(operator: Shaped) -> int:
    """Bytes with which one end of a spectrum, trace and density can be measured at all."""
    return (FEWEST_VECTORS + _in_flight(1, 1)) * vector_bytes("full", operator)


def narrowed(task: Task, memory_limit: int) -> tuple[Task, int, tuple[Note, ...]]:
    """What there is room for of a task, the vectors of its basis, and what was cut down.

    Blocks are halved first, down to single vectors; then fewer ends are asked for, the longer list
    losing its last, down to the largest eigenvalue.

    Args:
        task: What is asked for.
        memory_limit: Bytes for the basis and the blocks in flight.

    Returns:
        A task of restarts, their vectors, notes.

    Raises:
        ValueError: If not even one end by single vectors fits.
    """
    if task.asked.max_hvps < FEWEST_PRODUCTS:
        raise ValueError(
            f"`max_hvps` must be at least {FEWEST_PRODUCTS} within a memory limit that has no room "
            f"for a whole sweep, got {task.asked.max_hvps}."
        )
    for fewer in _ever_fewer(task):
        room = vectors_that_fit(fewer, memory_limit, kind="full")
        has_room = room >= _num_ends(fewer.asked) + 2 * fewer.width
        if has_room and _pays_for_blocks(fewer):
            return fewer, room, _cut_down(task, fewer)
    raise ValueError(
        f"`memory_limit` must be at least {least_memory(task.operator)} bytes, for "
        f"{FEWEST_VECTORS} basis vectors of {task.operator.size} numbers and the vectors in "
        f"flight, got {memory_limit}."
    )


def reserved_products(asked: Tolerances) -> int:
    """Products that restarts leave for trace and density: half of all, where both are wanted."""
    pilot = min(NUM_PILOT, asked.max_hvps // FEWEST_PRODUCTS) * asked.trace
    return pilot + (asked.max_hvps // 2 - pilot) * asked.density


def _in_flight(width: int, kept: int) -> int:
    """Vectors beside a basis: of blocks, and those that are given away in the end."""
    # these are there with the recurrence's two blocks, a product and what the operator makes of it
    return max(WORKING_BLOCKS * width + kept, 2 * width + WORKING_VECTORS)


def _num_ends(asked: Tolerances) -> int:
    # without ends wanted, the outliers are what spoils trace and density
    return asked.num_eigenvalues + asked.num_smallest or 1


def _pays_for_blocks(task: Task) -> bool:
    """Whether restarts, and then the density's recurrence, have products for one block at least."""
    reserved = reserved_products(task.asked)
    is_dense_enough = not task.asked.density or reserved // 2 >= task.width
    return task.asked.max_hvps - reserved >= task.width and is_dense_enough


def _ever_fewer(task: Task) -> Iterator[Task]:
    """The task itself, by narrower blocks, and with fewer ends."""
    yield task
    while task.width > 1:
        task = replace(task, width=task.width // 2)
        yield task
    while _num_ends(task.asked) > 1:
        asked = task.asked
        if asked.num_eigenvalues > max(asked.num_smallest, 1):
            asked = replace(asked, num_eigenvalues=asked.num_eigenvalues - 1)
        else:
            asked = replace(asked, num_smallest=asked.num_smallest - 1)
        task = replace(task, asked=asked)
        yield task


def _cut_down(task: Task, fewer: Task) -> tuple[Note, ...]:
    """What is missing or slower than asked for."""
    notes: tuple[Note, ...] = ()
    if fewer.width < task.width:
        text = (
            f"`memory_limit` or `max_hvps` has no room for blocks of {task.width} probes: they are "
            f"of {fewer.width}, which finds an eigenvalue of several copies less often."
        )
        notes += (Note("narrower-blocks", text),)
    asked, given = task.asked, fewer.asked
    if given != asked:
        text = (
            f"`memory_limit` has no room for {asked.num_eigenvalues} largest and "
            f"{asked.num_smallest} smallest eigenvalues: {given.num_eigenvalues} and "
            f"{given.num_smallest} of them are measured."
        )
        notes += (Note("fewer-eigenvalues", text),)
    return notes
