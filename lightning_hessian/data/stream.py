"""Batches of a running training, copied as they come by."""

from __future__ import annotations

import math
from typing import Any, Literal

from lightning.pytorch import Trainer

from lightning_hessian.data.detached import detached_copy
from lightning_hessian.data.frozen import FrozenBatch, FrozenBatches
from lightning_hessian.data.weights import BatchWeights, WeightFunction
from lightning_hessian.errors import RefusedError
from lightning_hessian.sandbox import global_generator_state

WAY_OUT = (
    "Give `dataloader=`, or define `hessian_dataloader(self)` on the module or data module, "
    "returning a loader to measure on."
)


class StreamedSample:
    """Copies the first batches that training sees in a fit, until there are enough samples.

    They went through the transfer hooks already. Nothing of the run changes: they are copied before
    any hook of the module sees them, and what fails is kept for the measurement to report. Of
    several processes each captures its part of the samples.
    """

    def __init__(
        self,
        trainer: Trainer,
        *,
        description: str,
        num_samples: int | Literal["all"],
        weight_fn: WeightFunction | None,
        batch_size: int | None,
        share: tuple[int, int] = (0, 1),
        refusal: RefusedError | None = None,
    ) -> None:
        self.description = description
        self._trainer = trainer
        self._rank, self._num_processes = share
        self._num_samples = num_samples
        if num_samples != "all":
            self._num_samples = math.ceil(num_samples / self._num_processes)
        self._weight_fn = weight_fn
        self._batch_size = batch_size
        self._is_closed = False
        self._begin(refusal)

    def _begin(self, error: Exception | None = None) -> None:
        self._weights = BatchWeights(self._weight_fn, self._batch_size, self.description)
        self._batches: list[FrozenBatch] = []
        self._steps: list[int] = []
        self._error = error

    @property
    def is_complete(self) -> bool:
        """Whether there is something to measure, or a reason why not."""
        return self._error is not None or (self._is_closed and bool(self._batches))

    def add(self, batch: Any) -> None:
        """Copy a batch as it goes into the training step, if it is still wanted."""
        if self._is_closed or self._error is not None:
            return
        put_back = global_generator_state()  # the batch's objects copy themselves as they like
        try:
            own = detached_copy(batch)
            is_last = self._trainer.is_last_batch
            index = self._rank + self._num_processes * len(self._batches)
            self._batches.append(self._weights.freeze(own, index, ends_epoch=is_last))
            self._steps.append(self._trainer.global_step)
            required = self._num_samples
            self._is_closed = (
                is_last if required == "all" else self._weights.num_samples >= required
            )
        except Exception as error:
            self._error = error
        finally:
            put_back()

    def close(self) -> None:
        """Make do with what there is: the fit ends."""
        self._is_closed = True

    def take(self) -> FrozenBatches:
        """The captured sample. After an error that may pass, capturing begins anew."""
        if (error := self._error) is not None:
            if not isinstance(error, RefusedError):
                self._begin()
            raise error
        if not self._batches:
            raise RefusedError(
                f"{self.description} cannot be indexed, and training has seen none of its batches "
                f"yet. {WAY_OUT}"
            )
        count = self._weights.num_samples
        required = self._num_samples
        is_enough = required == "all" or count >= required
        lack = "" if is_enough else f" of the {required:,} wanted"
        each = "" if self._num_processes == 1 else f", on each of {self._num_processes} processes"
        anew = "; captured anew after a resume" if self._trainer.ckpt_path else ""
        return FrozenBatches(
            tuple(self._batches),
            count,
            f"the first {len(self._batches):,} batches ({count:,} samples{lack}) of "
            f"{self.description} in this fit, captured as training saw them at steps "
            f"{self._steps[0]} to {self._steps[-1]}, {self._weights.origin}{each}{anew}",
            are_transferred=True,
        )
