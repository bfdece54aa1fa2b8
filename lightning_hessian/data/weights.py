"""How many samples a batch holds that somebody else made: told, or read off its tensors.

A wrong guess would bend every number without a trace, so what is ambiguous is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from lightning_hessian.data.detached import leaves_of
from lightning_hessian.data.frozen import FrozenBatch
from lightning_hessian.errors import RefusedError

WeightFunction = Callable[[Any], float]
"""From a batch to its weight in the mean."""

WAY_OUT = (
    "Give `weight_fn=`, a function from a batch to its weight in the mean, such as its number of "
    "samples."
)


def weight_by(weight_fn: WeightFunction, batch: Any) -> float:
    """Ask the user's function, whose answer must be a positive number."""
    weight = float(weight_fn(batch))
    if not (math.isfinite(weight) and weight > 0):
        raise RefusedError(
            f"`weight_fn` must return a positive number for every batch, got {weight}. Return its "
            "number of samples, or whatever else the loss of the batch is a mean over."
        )
    return weight


@dataclass(frozen=True, slots=True)
class _Length:
    """Of one batch: the common first dimension, the number of tensors, and if an epoch ended."""

    samples: int
    num_tensors: int
    ends_epoch: bool


class BatchWeights:
    """Weighs batches one after the other, and counts their samples.

    Without ``weight_fn`` a batch weighs as many samples as all its tensors have in their first
    dimension. Tensors that disagree, a number among them, or no tensor at all say nothing certain;
    nor do batches of changing length, unless a shorter one ends an epoch: time may come first, or a
    list may hold one tensor for each sample.
    """

    def __init__(
        self, weight_fn: WeightFunction | None, batch_size: int | None, description: str
    ) -> None:
        self._weight_fn = weight_fn
        self._batch_size = batch_size
        self._description = description
        self._lengths: list[_Length] = []
        self._has_counted = True
        self.num_samples = 0

    @property
    def origin(self) -> str:
        """How the weights came about, to be appended to a description."""
        count = "counted by the first dimension of their tensors"
        if self._weight_fn is None:
            return count
        return f"weighted by `weight_fn`, {count if self._has_counted else 'which counts them'}"

    def freeze(self, batch: Any, index: int, *, ends_epoch: bool) -> FrozenBatch:
        """Weigh the next batch, which must not change any more; refused if its weight is unknown.

        Where ``weight_fn`` gives it and the number of samples is unknown, the weight counts for it.
        """
        tensors = [leaf for leaf in leaves_of(batch) if isinstance(leaf, Tensor)]
        lengths = [tensor.shape[0] if tensor.ndim else None for tensor in tensors]
        is_known = bool(lengths) and None not in lengths and len(set(lengths)) == 1
        samples = int(lengths[0] or 0) if is_known else 0
        weight: float = samples
        if self._weight_fn is not None:
            weight = weight_by(self._weight_fn, batch)
            samples = samples if is_known else max(1, round(weight))
            self._has_counted = self._has_counted and is_known
        elif is_known:
            self._lengths.append(_Length(samples, len(lengths), ends_epoch))
            self._refuse_changes()
        else:
            found = sorted({"none" if n is None else str(n) for n in lengths})
            what = f"tensors of first dimensions {', '.join(found)}" if found else "no tensor"
            raise RefusedError(
                f"the number of samples in a batch of {self._description} is unknown: the "
                f"{type(batch).__name__} holds {what}. {WAY_OUT}"
            )
        self.num_samples += samples
        return FrozenBatch(batch, weight, index, samples)

    def part(self, whole: FrozenBatch, data: Any, num_samples: int) -> FrozenBatch:
        """Some samples of the batch that was weighed last, in its place."""
        self.num_samples -= whole.num_samples - num_samples
        weight: float = num_samples
        if self._weight_fn is not None:
            weight = weight_by(self._weight_fn, data)
        return replace(whole, data=data, weight=weight, num_samples=num_samples)

    def _refuse_changes(self) -> None:
        first, latest = self._lengths[0], self._lengths[-1]
        full = self._batch_size or first.samples
        is_full = latest.samples == full
        # workers of a stream may each end on a shorter batch, once the size is known
        is_rest = latest.samples < full and (
            latest.ends_epoch or (self._batch_size is not None and first.samples == full)
        )
        if not (is_full or is_rest) or latest.num_tensors != first.num_tensors:
            declared = "" if self._batch_size is None else f" under `batch_size={self._batch_size}`"
            raise RefusedError(
                f"the number of samples in the batches of {self._description} is ambiguous"
                f"{declared}: first {first.num_tensors} tensors of length {first.samples}, then "
                f"{latest.num_tensors} of length {latest.samples}. {WAY_OUT}"
            )
