"""The processes that share a measurement, and their agreement on what went wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any, Protocol, TypeVar

import torch
from lightning.fabric import Fabric
from lightning.pytorch import Trainer
from torch import Tensor

from lightning_hessian.errors import (
    IndependentLossError,
    InterruptedMeasurementError,
    NoExactProductsError,
    NoisyStepError,
    NonFiniteError,
    ProcessFailedError,
    RefusedError,
    RestorationError,
    StaleGraphError,
    UntakenBatchError,
)

T = TypeVar("T")

_SHARED_ERRORS: dict[str, type[Exception]] = {
    kind.__name__: kind
    for kind in (
        RefusedError,
        IndependentLossError,
        NoExactProductsError,
        NoisyStepError,
        InterruptedMeasurementError,
        RestorationError,
        NonFiniteError,
        ProcessFailedError,
        StaleGraphError,
        UntakenBatchError,
    )
}


class Processes(Protocol):
    """One process's view of those that measure together.

    Every method is called on all of them, in the same order.
    """

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""
        ...

    @property
    def size(self) -> int:
        """How many there are."""
        ...

    @property
    def device(self) -> torch.device:
        """Where tensors to be summed may live."""
        ...

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum over the processes, the same bits on each; the tensor given may change."""
        ...

    def broadcast(self, thing: T, source: int = 0) -> T:
        """What process ``source`` calls with; the others' ``thing`` is ignored."""
        ...


class SingleProcess:
    """One process."""

    rank = 0
    size = 1
    device = torch.device("cpu")

    def sum(self, tensor: Tensor) -> Tensor:
        """The tensor itself."""
        return tensor

    def broadcast(self, thing: T, source: int = 0) -> T:  # noqa: ARG002
        """The thing itself."""
        return thing


class LightningProcesses:
    """The processes of a Trainer's strategy, or of Fabric.

    Args:
        rank: Of this process.
        size: Number of processes.
        device: Of this process.
        reduce: Sums a tensor over the processes, perhaps in place.
        broadcast: Sends an object from the process ``src``.
    """

    def __init__(
        self,
        *,
        rank: int,
        size: int,
        device: torch.device,
        reduce: Callable[[Tensor], Tensor],
        broadcast: Callable[..., Any],
    ) -> None:
        self.rank = rank
        self.size = size
        self.device = device
        self._reduce = reduce
        self._broadcast = broadcast

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum tensors of one shape and type; the one given changes."""
        return self._reduce(tensor.contiguous())

    def broadcast(self, thing: T, source: int = 0) -> T:
        """Send what can be pickled, its tensors on the CPU, from process ``source`` to all."""
        sent: T = self._broadcast(thing, src=source)
        return sent


def processes_of(host: Trainer | Fabric) -> Processes:
    """The processes that train together."""
    if host.world_size == 1:
        return SingleProcess()
    strategy: Any = host.strategy
    return LightningProcesses(
        rank=host.global_rank,
        size=host.world_size,
        device=strategy.root_device,
        reduce=_sum_in_group if _has_group() else partial(strategy.reduce, reduce_op="sum"),
        broadcast=strategy.broadcast,
    )


def _has_group() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _sum_in_group(tensor: Tensor) -> Tensor:
    # the strategies' own way waits at a barrier before each sum
    torch.distributed.all_reduce(tensor)
    return tensor


def on_all_or_none(processes: Processes, function: Callable[[], T]) -> T:
    """Run a function that may fail on one process, and fail on all if it does on any.

    Each calls this at the same time. A process that left by an error of its own would leave the
    others waiting for it in their next exchange. The function exchanges nothing itself, or only by
    agreement.

    Raises:
        Exception: The first failing process's, on all: as it was if it is the only process or its
            class is one of this package's, else a :class:`ProcessFailedError` that names it.
    """
    if processes.size == 1:
        return function()
    own: Exception | None = None
    result: Any = None
    try:
        result = function()
    except Exception as error:
        own = error
    flags = torch.zeros(processes.size, dtype=torch.float64, device=processes.device)
    flags[processes.rank] = float(own is not None)
    failed = processes.sum(flags).nonzero().flatten().tolist()
    if failed:
        name, text = processes.broadcast(_described(own, processes.rank), failed[0])
        raise _SHARED_ERRORS[name](text) from own
    return result  # type: ignore[no-any-return]


def any_process(processes: Processes, fact: bool) -> bool:
    """Whether something holds on any process; each calls this, and gets the same answer."""
    flag = torch.full((1,), float(fact), dtype=torch.float64, device=processes.device)
    return bool(processes.sum(flag))


@contextmanager
def enter_on_all(processes: Processes, manager: AbstractContextManager[T]) -> Iterator[T]:
    """Enter and leave a context manager by agreement; each process leaves the block alike."""
    stack = ExitStack()
    try:
        yield on_all_or_none(processes, lambda: stack.enter_context(manager))
    finally:
        on_all_or_none(processes, stack.close)


def _described(error: Exception | None, rank: int) -> tuple[str, str]:
    """An exception as what can be sent: a class's name and a text."""
    name = type(error).__name__
    if name in _SHARED_ERRORS:
        return name, str(error)
    return ProcessFailedError.__name__, f"{name} on process {rank}: {error}"
