"""Is the loss in eval mode another function than the one that training minimises?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd

from lightning_hessian.data import FrozenBatches
from lightning_hessian.errors import InterruptedMeasurementError, NonFiniteError, RestorationError
from lightning_hessian.fit.groups import SAME
from lightning_hessian.loss import TrainingLoss
from lightning_hessian.processes import any_process, on_all_or_none
from lightning_hessian.records import Note

EXPLAINED = (_DropoutNd, _NormBase, nn.RReLU)
"""Layers that are known to do something else in training: noise, and statistics of the batch."""
COMPARED = 2 / 3
"""Gradients of one batch that comparing comes to."""
LOOKED_AT = 2 / 3
"""The same for looking why two losses differ."""
Flags = Mapping[nn.Module, bool]
OpenInMode = Callable[[Flags | None], AbstractContextManager[TrainingLoss]]
"""The loss in eval mode for None, else with these flags of training."""


@dataclass(frozen=True, slots=True)
class _Pair:
    """The loss of one batch in both modes, and the places of modules that fill their buffers."""

    found: float | None
    trained: float | None
    filled: tuple[int, ...]

    @property
    def text(self) -> str:
        """What to say of it."""
        found, trained = (
            "none" if value is None else f"{value:.6g}" for value in (self.found, self.trained)
        )
        return (
            "In eval mode the step's loss is another function than in training: on one batch it is "
            f"{found}, and {trained} with the modules in train mode but for dropout and batch "
            'statistics. The numbers here are those of the loss in eval mode. Give `mode="train"` '
            "for the loss that training minimises."
        )


def compare_with_training(
    open_loss: OpenInMode, frozen: FrozenBatches, flags: Flags, spend: Callable[[float], None]
) -> Note | None:
    """A note where the loss in eval mode is another than training's, for no reason that is known.

    Dropout and batch statistics are, in both, as in eval mode: known layers by their type, others
    by the buffers that a pass in train mode fills. What differs with the random numbers is noise,
    and tells nothing. A difference that is left is a branch of the module's own.

    Args:
        open_loss: Gives the loss in eval mode, or with flags.
        frozen: The first batch is compared.
        flags: Which modules are in train mode while the fit trains.
        spend: Told what is spent, in gradients of a batch.
    """
    spend(COMPARED)
    try:
        with open_loss(None) as loss:
            found = _loss_of_first(loss, frozen)
    except NonFiniteError:  # which a batch alone may be, and if not, the measurement will tell
        return None
    flags = _but_for(flags, (part for part in flags if isinstance(part, EXPLAINED)))
    try:
        pair = _difference(open_loss, frozen, flags, found, spend)
        if pair and pair.filled:
            # what gathers statistics of its batches, or iterates, as it trains
            parts = list(flags)
            flags = _but_for(flags, (parts[place] for place in pair.filled))
            pair = _difference(open_loss, frozen, flags, found, spend)
    except (RestorationError, InterruptedMeasurementError):
        raise
    except Exception as error:
        # it may need what only a running training has
        text = (
            "Whether the loss in eval mode is training's was not seen, as the step fails in train "
            f"mode inside a measurement ({type(error).__name__}: {error})."
        )
        return Note("not-compared-with-training", text)
    return None if pair is None else Note("other-function-in-eval", pair.text)


def _difference(
    open_loss: OpenInMode,
    frozen: FrozenBatches,
    flags: Flags,
    found: float | None,
    spend: Callable[[float], None],
) -> _Pair | None:
    """What the loss is with these flags, if that is another, and not by its noise alone."""
    with open_loss(flags) as loss:
        limit, processes = SAME[loss.dtype], loss.processes
        before = _buffers(flags)
        trained = _loss_of_first(loss, frozen)
        if not any_process(processes, not _is_close(found, trained, limit)):
            return None
        filled = [place for place, part, held in before if not _holds(part, held)]
        spend(LOOKED_AT)
        again = _loss_of_first(loss, frozen, shift=1)
        if any_process(processes, not _is_close(trained, again, limit)):
            return None
        # one answer on all, as another pass is made of it
        return _Pair(found, trained, tuple(processes.broadcast(filled)))


def _but_for(flags: Flags, parts: Iterable[nn.Module]) -> Flags:
    """With some modules in eval mode."""
    return {**flags, **dict.fromkeys(parts, False)}


def _loss_of_first(loss: TrainingLoss, frozen: FrozenBatches, *, shift: int = 0) -> float | None:
    """Of the first batch; None where training would skip it."""
    batch = frozen.batches[0]
    value = on_all_or_none(loss.processes, partial(loss.evaluate, batch, seed=batch.index + shift))
    return None if value is None else float(value.detach())


def _is_close(one: float | None, other: float | None, limit: float) -> bool:
    if one is None or other is None:
        return one is other
    return abs(one - other) <= limit * max(abs(one), abs(other))


def _buffers(flags: Flags) -> list[tuple[int, nn.Module, dict[str, Tensor]]]:
    """Copies of what modules in train mode may fill, and the places of these."""
    found = []
    for place, (part, is_training) in enumerate(flags.items()):
        own = {
            name: buffer.detach().clone()
            for name, buffer in part.named_buffers(recurse=False)
            if is_training and torch.is_floating_point(buffer)
        }
        if own:
            found.append((place, part, own))
    return found


def _holds(part: nn.Module, held: Mapping[str, Tensor]) -> bool:
    now = dict(part.named_buffers(recurse=False))
    return all(name in now and now[name].equal(buffer) for name, buffer in held.items())
