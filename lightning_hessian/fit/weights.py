"""Which of the weights in a checkpoint: those that the optimiser moves, or their average."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from lightning_hessian.errors import UnreadableCheckpointError
from lightning_hessian.records import Weights

COMPILED = "_orig_mod."
State = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChosenWeights:
    """The state of a module, by the keys of its ``state_dict``.

    Attributes:
        state: What to load.
        has_foreign_buffers: Whether the buffers were made with other weights than these.
    """

    state: State
    has_foreign_buffers: bool = False


def choose_weights(
    checkpoint: Mapping[str, Any], weights: Weights, parameter_names: Iterable[str]
) -> ChosenWeights:
    """Take the wanted weights out of a checkpoint.

    A ``WeightAveraging`` callback saves the average as ``state_dict`` and the raw weights as
    ``current_model_state``; ``StochasticWeightAveraging`` saves the average in its own state, with
    buffers from before the training: those beside the raw weights are taken in their place.

    Args:
        checkpoint: As read.
        weights: ``current`` or ``averaged``.
        parameter_names: Of the module.

    Returns:
        The weights.

    Raises:
        UnreadableCheckpointError: If averaged weights are wanted, and there are none.
    """
    state: State = checkpoint["state_dict"]
    raw: State | None = checkpoint.get("current_model_state")
    if weights == "current":
        return ChosenWeights(state=state if raw is None else raw)
    if raw is not None:
        _check_has_begun(checkpoint.get("averaging_state", {}).get("n_averaged"))
        return ChosenWeights(state=state)
    for own in checkpoint.get("callbacks", {}).values():
        if isinstance(own, Mapping) and own.get("average_model_state") is not None:
            _check_has_begun(own.get("n_averaged"))
            return _with_average(state, own["average_model_state"], parameter_names)
    raise UnreadableCheckpointError(
        "it holds no averaged weights: neither `current_model_state` of a WeightAveraging callback "
        'nor the state of a StochasticWeightAveraging. Give `weights="current"`'
    )


def named_as(state: State, names: Iterable[str]) -> dict[str, Any]:
    """Rename entries of compiled submodules to a module's names, which may differ in the prefix.

    ``torch.compile`` of a submodule adds ``_orig_mod.`` to the keys of its state.

    Args:
        state: As saved.
        names: Keys of the module's ``state_dict``.

    Returns:
        The entries under the module's names; under their own where the module has none.
    """
    known = {name.replace(COMPILED, ""): name for name in names}
    return {known.get(key.replace(COMPILED, ""), key): value for key, value in state.items()}


def _with_average(state: State, average: State, parameter_names: Iterable[str]) -> ChosenWeights:
    averaged = {name: average[name] for name in parameter_names if name in average}
    is_other = any(
        name not in state or not torch.equal(value.to(state[name].device), state[name])
        for name, value in averaged.items()
    )
    return ChosenWeights(state={**state, **averaged}, has_foreign_buffers=is_other)


def _check_has_begun(num_averaged: Any) -> None:
    if num_averaged is not None and int(num_averaged) == 0:
        raise UnreadableCheckpointError(
            "the averaging of weights had not begun when it was saved, so there is no average. "
            'Give `weights="current"`'
        )
