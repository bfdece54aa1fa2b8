"""Why a step has failed in a measurement, and whether it is worth trying again."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from lightning_hessian.data import FrozenBatches
from lightning_hessian.errors import UntakenBatchError, without_numbers
from lightning_hessian.fit.groups import Open
from lightning_hessian.processes import any_process
from lightning_hessian.records import Mode, Note
from lightning_hessian.sample_losses import failure_on, named


@dataclass(frozen=True, slots=True)
class WholeBatches:
    """That batches smaller than the training's are left out of the frozen sample.

    Attributes:
        size: Samples in those that are kept.
        note: Why.
    """

    size: int
    note: Note

    def of(self, frozen: FrozenBatches) -> FrozenBatches:
        """The whole batches of one process; it has some."""
        whole = tuple(batch for batch in frozen.batches if batch.num_samples == self.size)
        left_out = len(frozen.batches) - len(whole)
        if not left_out:
            return frozen
        return replace(
            frozen,
            batches=whole,
            num_samples=sum(batch.num_samples for batch in whole),
            description=f"{frozen.description}, but for {left_out} smaller batch",
        )


def explain_failure(open_loss: Open, frozen: FrozenBatches, mode: Mode) -> WholeBatches | None:
    """After the step has failed: whether it does on any frozen batch, or on smaller ones.

    Costs two evaluations, or four of a step that fails.

    Returns:
        The batches that it takes, where those smaller than the training's are what it fails on;
        None where it fails on none now.

    Raises:
        UntakenBatchError: If it fails on a batch as training has it, each time alike.
    """
    with open_loss(frozen) as loss:
        processes, own = loss.processes, loss.sample.batches
        largest = max(batch.num_samples for batch in own)
        size = max(processes.broadcast(largest, rank) for rank in range(processes.size))
        whole = next((batch for batch in own if batch.num_samples == size), None)
        if any_process(processes, whole is None):
            return None
        assert whole is not None
        if (failure := failure_on(loss, whole)) is not None:
            again = failure_on(loss, whole)
            if again is not None and _is_alike(failure, again):
                text = _fails(failure, size, f"{mode} mode", loss.dtype)
                raise UntakenBatchError(text) from failure
            return None
        rest = next((batch for batch in own if batch.num_samples < size), None)
        if not any_process(processes, rest is not None):
            return None
        failure = failure_on(loss, rest or whole)
    if failure is None:
        return None
    text = (
        f"The step does not take the frozen batch of less than {size} samples "
        f"({named(failure)}): its samples are left out."
    )
    return WholeBatches(size, Note("small-batch-left-out", text))


def _is_alike(one: Exception, other: Exception) -> bool:
    return without_numbers(named(one)) == without_numbers(named(other))


def _fails(failure: Exception, size: int, mode: str, dtype: torch.dtype) -> str:
    return (
        f"the step fails on a batch of {size} samples, as many as in training, each time alike, in "
        f"{mode}, in {str(dtype).removeprefix('torch.')} and outside of training "
        f"({named(failure)}). Define `hessian_loss(self, batch, batch_idx)`, returning the loss "
        "there; `HessianSpectrum` can also measure with `mode='train'`."
    )
