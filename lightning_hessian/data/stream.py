"""Batches of a running training, copied as they come by."""

from __future__ import annotations

import math
from typing import Any, Literal

from lightning.pytorch import Trainer

from lightning_hessian.data.detached import detached_copy
from lightning_hessian.data.frozen import FrozenBatch, FrozenBatches
from lightning_hessian.data.held_rows import HeldRows, cut
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
    several processes each captures its part of the samples. Rows that an earlier epoch has shown
    are left out; where an epoch after a whole one begins with nothing but such rows, there are no
    more to come. "All" are those of a whole epoch. ``batch_size`` is what the loader declares, or
    None.
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
        self.batch_size = batch_size
        self._is_closed = False
        self._begin(refusal)

    def _begin(self, error: Exception | None = None) -> None:
        self._weights = BatchWeights(self._weight_fn, self.batch_size, self.description)
        self._batches: list[FrozenBatch] = []
        self._steps: list[int] = []
        self._rows = HeldRows()
        self._repeats = False
        self._has_begun_epoch = False
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
            self._add(detached_copy(batch))
        except Exception as error:
            self._error = error
        finally:
            put_back()

    def _add(self, batch: Any) -> None:
        is_first, is_last = self._trainer.fit_loop.batch_idx == 0, self._trainer.is_last_batch
        required = self._num_samples
        if is_first and required == "all" and not self._has_begun_epoch:
            self._begin()  # a fit that is resumed may have begun in the middle of an epoch
        if is_first:
            self._rows.begin_epoch()
        new = self._rows.new_of(batch)
        self._repeats = self._repeats or new is not None
        if new != []:
            self._hold(batch, new, ends_epoch=is_last)
        elif is_first and self._has_begun_epoch:
            self._is_closed = True
        self._has_begun_epoch = self._has_begun_epoch or is_first
        is_enough = (
            is_last and self._has_begun_epoch
            if required == "all"
            else self._weights.num_samples >= required
        )
        self._is_closed = self._is_closed or is_enough

    def _hold(self, batch: Any, rows: list[int] | None, *, ends_epoch: bool) -> None:
        """Keep a batch, or some rows of it."""
        index = self._rank + self._num_processes * len(self._batches)
        frozen = self._weights.freeze(batch, index, ends_epoch=ends_epoch)
        if rows is not None:
            frozen = self._weights.part(frozen, cut(batch, rows), len(rows))
        self._batches.append(frozen)
        self._steps.append(self._trainer.global_step)

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
        once = ", each once, as the stream repeats itself" if self._repeats else ""
        each = "" if self._num_processes == 1 else f", on each of {self._num_processes} processes"
        anew = "; captured anew after a resume" if self._trainer.ckpt_path else ""
        return FrozenBatches(
            tuple(self._batches),
            count,
            f"the first {len(self._batches):,} batches ({count:,} samples{lack}{once}) of "
            f"{self.description} in this fit, captured as training saw them at steps "
            f"{self._steps[0]} to {self._steps[-1]}, {self._weights.origin}{each}{anew}",
            are_transferred=True,
        )
