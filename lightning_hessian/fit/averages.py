"""The average that a callback keeps beside the weights of a running fit, and where it gets to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn

from lightning_hessian.errors import RefusedError, UnreadableCheckpointError
from lightning_hessian.fit.fingerprint import Fingerprint
from lightning_hessian.fit.weights import ChosenWeights, choose_weights
from lightning_hessian.processes import Processes, on_all_or_none
from lightning_hessian.records import Mode, Note, Weights
from lightning_hessian.sandbox import Sandbox, sum_of_bits

KINDS = frozenset({"WeightAveraging", "StochasticWeightAveraging"})
"""By name, as there are two packages with the same classes."""
BESIDE = "current_model_state"
"""Where a checkpoint keeps the weights that training moves, if `state_dict` holds an average."""


class Averages:
    """What a Trainer's averaging callback would save, asked by the hooks that save it.

    Args:
        trainer: Of the fit.
        module: Whose weights are averaged.
    """

    def __init__(self, trainer: Trainer, module: LightningModule) -> None:
        self._trainer = trainer
        self._module = module

    def are_awaited(self) -> bool:
        """Whether there is a callback that averages, and has not begun to."""
        callbacks = self._callbacks()
        return bool(callbacks) and self._chosen(callbacks[0]) is None

    def state(self, mode: Mode) -> dict[str, Tensor]:
        """The averaged parameters, and the buffers that belong to them, by name.

        Raises:
            RefusedError: If there is no average or not one, or statistics are of other weights.
        """
        callbacks = self._callbacks()
        if len(callbacks) != 1:
            found = ", ".join(type(each).__name__ for each in callbacks) or "none"
            raise RefusedError(
                "`Loss(weights='averaged')` needs exactly one callback that averages weights, such "
                f"as `EMAWeightAveraging`, in `Trainer(callbacks=...)`, got {found}. Add one, or "
                "measure `weights='current'`."
            )
        chosen = self._chosen(callbacks[0])
        if chosen is None:
            raise RefusedError(
                "`Loss(weights='averaged')` needs an average, but the averaging of weights has not "
                "begun. Let it begin earlier, or measure `weights='current'`."
            )
        if chosen.has_foreign_buffers and mode == "eval" and has_running_statistics(self._module):
            raise RefusedError(
                "`Loss(weights='averaged')` has no running statistics that belong to the average, "
                "only those of the current weights, with which it has another loss in eval mode. "
                "Measure with `mode='train'`, or average buffers too (`WeightAveraging`)."
            )
        lacking = [n for n, _ in self._module.named_parameters() if n not in chosen.state]
        if lacking:
            raise RefusedError(
                "`Loss(weights='averaged')` must find every parameter in the average, but "
                f"{', '.join(lacking[:5])} came to the module after it began. Measure "
                "`weights='current'`."
            )
        return _tensors(chosen)

    def fingerprint(self) -> Fingerprint | None:
        """The step, and sums of the bits of what :meth:`state` gives; None where that is nothing.

        As for the weights that training moves, see :func:`~lightning_hessian.fit.fingerprint`.
        """
        chosen = [self._chosen(callback) for callback in self._callbacks()]
        if len(chosen) != 1 or chosen[0] is None:
            return None
        return (self._trainer.global_step, *map(sum_of_bits, _tensors(chosen[0]).values()))

    def are_in_module(self) -> bool:
        """Whether the module's own parameters are the average, as at the end of averaging."""
        return any(map(self._is_in_module, self._callbacks()))

    def in_files(self, *, weights_only: bool) -> Weights:
        """Which weights a checkpoint that is saved now has in its ``state_dict``."""
        both = not weights_only and any(BESIDE in self._as_saved(c) for c in self._callbacks())
        return "averaged" if both or self.are_in_module() else "current"

    def _callbacks(self) -> list[Any]:
        callbacks: list[Any] = self._trainer.callbacks  # type: ignore[attr-defined]
        return [c for c in callbacks if {base.__name__ for base in type(c).__mro__} & KINDS]

    def _is_in_module(self, callback: Any) -> bool:
        chosen = self._chosen(callback)
        if chosen is None:
            return False
        averaged = _tensors(chosen)
        return all(
            name in averaged and torch.equal(p.detach(), averaged[name].to(p.device, p.dtype))
            for name, p in self._module.named_parameters()
        )

    def _chosen(self, callback: Any) -> ChosenWeights | None:
        """As from a file; None where there is no average yet."""
        names = [name for name, _ in self._module.named_parameters(remove_duplicate=False)]
        try:
            return choose_weights(self._as_saved(callback), "averaged", names)
        except UnreadableCheckpointError:
            return None

    def _as_saved(self, callback: Any) -> dict[str, Any]:
        # by its public hooks: attributes that hold the average are private, and other in each kind
        checkpoint: dict[str, Any] = {
            "state_dict": self._module.state_dict(),
            "callbacks": {callback.state_key: callback.state_dict()},
        }
        callback.on_save_checkpoint(self._trainer, self._module, checkpoint)
        return checkpoint


def lend_average(sandbox: Sandbox, average: Mapping[str, Tensor], processes: Processes) -> None:
    """Give the module averaged weights and buffers until the sandbox is left; the first process's.

    All processes call this at the same time.
    """
    if processes.size > 1:
        own = on_all_or_none(processes, lambda: {n: t.cpu() for n, t in average.items()})
        average = processes.broadcast(own)
    on_all_or_none(processes, lambda: sandbox.hold(_others(sandbox.module, average)))


def has_running_statistics(module: nn.Module) -> bool:
    """Whether the loss in eval mode depends on statistics of the weights' own activations."""
    return any(getattr(part, "running_mean", None) is not None for part in module.modules())


def note_on_file(measured: Weights, held: Weights) -> tuple[Note, ...]:
    """What a report beside a checkpoint must say where the file's own weights are others."""
    if measured == held:
        return ()
    own = {"current": "the weights that the optimiser moves", "averaged": "averaged weights"}
    text = (
        f"The `state_dict` of the checkpoint holds {own[held]}, while this report is of "
        f"{own[measured]}. For the others give `weights={held!r}`."
    )
    return (Note("other-weights-in-file", text),)


MODULE_HOLDS_AVERAGE = Note(
    "module-holds-average",
    "The averaging callback has put its average into the module at the end of training: this "
    "report is of averaged weights, those before are of the weights that the optimiser moved.",
)


def _tensors(chosen: ChosenWeights) -> dict[str, Tensor]:
    """Without what a module keeps beside them as its `extra_state`."""
    return {name: value for name, value in chosen.state.items() if isinstance(value, Tensor)}


def _others(module: nn.Module, average: Mapping[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Tensors of a module beside the bits of an average, where these are not the same."""
    named: dict[str, Tensor] = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    pairs = [
        (tensor, average[name].detach().to(tensor.device, tensor.dtype))
        for name, tensor in named.items()
        if name in average
    ]
    return [(tensor, bits) for tensor, bits in pairs if not torch.equal(tensor.detach(), bits)]
