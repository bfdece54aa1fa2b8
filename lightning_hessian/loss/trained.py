"""What moves the parameters: the optimisers of the fit, and their own tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.optim import Optimizer

from lightning_hessian.errors import RefusedError
from lightning_hessian.loss.parameters import ParameterSelection


@dataclass(frozen=True, slots=True)
class Clipping:
    """How the Trainer shortens gradients before a step.

    Attributes:
        value: To which norm, or which magnitude of each number.
        algorithm: ``norm`` or ``value``.
    """

    value: float
    algorithm: str


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """The optimisers that step a loss's parameters, for what only they know.

    Attributes:
        optimizers: Of the fit.
        named: The module's tensors by their names, as the optimisers hold them: a measurement in
            another precision has copies in their place.
        holds_average: Whether the weights measured are an average, which no optimiser steps.
        clipping: How gradients are shortened; None where they are not.
        is_as_configured: Whether the optimisers have taken none of the steps behind the weights, as
            in an analysis of checkpoints.
    """

    optimizers: Sequence[Optimizer]
    named: Mapping[str, Tensor]
    holds_average: bool = False
    clipping: Clipping | None = None
    is_as_configured: bool = False

    def of(self, parameters: ParameterSelection) -> tuple[Optimizer, list[Tensor]]:
        """The one optimiser that steps some of these parameters, and its tensors for all of them.

        Raises:
            RefusedError: If there is none or more than one, parameters are sharded, or the weights
                are an average.
        """
        if self.holds_average:
            raise RefusedError(
                "averaged weights are stepped by no optimiser. Measure the current ones: "
                "`Loss(weights='current')`."
            )
        own = [self.named[name] for name in parameters.names]
        if any(type(tensor).__name__ == "DTensor" for tensor in own):
            raise RefusedError(
                "of sharded parameters each process has a part of the optimiser's state only. "
                "Analyse the consolidated checkpoint."
            )
        wanted = {id(tensor) for tensor in own}
        steps = [
            optimizer
            for optimizer in self.optimizers
            if any(id(p) in wanted for group in optimizer.param_groups for p in group["params"])
        ]
        if not steps:
            raise RefusedError(
                "no optimiser steps the measured parameters: `configure_optimizers` of the module "
                "gives none, or one of others."
            )
        if len(steps) > 1:
            kinds = ", ".join(type(optimizer).__name__ for optimizer in steps)
            raise RefusedError(
                "one optimiser must step the measured parameters, got "
                f"{len(steps)} ({kinds}). Select those of one by `parameters=`."
            )
        return steps[0], own


def as_outside(optimizer: Optimizer) -> Optimizer:
    """An optimiser with groups of its own, which go on to name its tensors inside a sandbox.

    There copies of another precision take the tensors' places in the groups, but not in the state.
    """
    seen = object.__new__(type(optimizer))
    groups = [{**group, "params": list(group["params"])} for group in optimizer.param_groups]
    vars(seen).update(vars(optimizer) | {"param_groups": groups})
    return seen
