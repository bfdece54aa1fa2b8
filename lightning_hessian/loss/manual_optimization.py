"""The losses of a step that optimises by hand, taken from its calls of ``manual_backward``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn

from lightning_hessian.data import FrozenBatch, FrozenBatches
from lightning_hessian.errors import RefusedError
from lightning_hessian.loss.training_step import TrainingStep
from lightning_hessian.processes import Processes, SingleProcess, on_all_or_none
from lightning_hessian.sandbox import Sandbox, replaced_attributes

_TO_SAY_WHICH = (
    "Define `hessian_loss(self, batch, batch_idx)`, returning the loss to measure, or name another "
    "method by `Loss(which=...)`."
)


@dataclass(slots=True)
class BackwardCall:
    """One call of ``manual_backward``.

    Attributes:
        trainable: Names of the parameters that took a gradient at that moment.
        moved: Names of those that the step itself has moved until then.
        stepped: Names of the parameters of the optimisers that stepped on it; empty if none did.
    """

    trainable: frozenset[str]
    moved: frozenset[str]
    stepped: frozenset[str] = frozenset()


class ManualBackwardLoss:
    """The loss that a step hands to its k-th ``manual_backward``, at the weights as they are.

    The step runs up to that call and is left there. Nothing moves before: optimisers and schedulers
    do not step, earlier calls of ``manual_backward`` leave gradients of zero. So all losses of a
    step are measured at the same weights, where training computes the later ones after the steps
    on the earlier ones. A step that moves weights by itself in between, as for a sharpness-aware
    loss, is refused from there on. A batch on which the step makes no such call counts as skipped.

    Args:
        step: The module's training step.
        module: With manual optimisation.
        trainer: Running a fit.
        number: Of the call, from 0; None for the only one.

    Attributes:
        name: Says which.
    """

    def __init__(
        self, step: TrainingStep, module: LightningModule, trainer: Trainer, number: int | None
    ) -> None:
        self.name = f"manual_backward {number or 0}"
        self._step = step
        self._module = module
        self._trainer = trainer
        self._number = number

    def __call__(self, batch: Any, index: int) -> Tensor | None:
        """Loss of one batch with its graph, or None where the step does not get to it."""
        return self._run(batch, index, wanted=self._number or 0).loss

    def parameters(
        self, frozen: FrozenBatches, sandbox: Sandbox, processes: Processes | None = None
    ) -> frozenset[str]:
        """Which parameters the loss is minimised over, from one run of the step on every batch.

        Those of the optimisers that step on it: after the call and before the next call that
        follows a step. Where none steps on any batch (in the midst of an accumulation), those that
        are trainable at the call. In both cases only what is trainable there.

        Args:
            frozen: The frozen sample, or this process's share of it.
            sandbox: Entered.
            processes: That share the batches.

        Returns:
            Names of parameters, the same on all processes.

        Raises:
            RefusedError: If the call is not there, or not the only one, or another one on some
                batches than on others, or at weights that the step has moved.
        """
        processes = processes or SingleProcess()
        own = [
            # after each batch, as a step may hold exchanges of its own
            on_all_or_none(processes, partial(self._calls, batch, sandbox))
            for batch in frozen.batches
        ]
        runs = [run for rank in range(processes.size) for run in processes.broadcast(own, rank)]
        most = max(map(len, runs), default=0)
        number = self._number or 0
        self._check_number(most)
        calls = [calls[number] for calls in runs if len(calls) > number]
        owners = {call.stepped for call in calls if call.stepped}
        trainable = {call.trainable for call in calls}
        if len(owners) > 1 or len(trainable) > 1:
            raise RefusedError(
                f"`manual_backward` call {number} of `{type(self._module).__name__}.training_step` "
                "is followed by the steps of other optimisers, or meets other trainable "
                "parameters, on some batches than on others, so it is not one loss. "
                f"{_TO_SAY_WHICH}"
            )
        names = trainable.pop().intersection(*owners)
        moved = sorted(names & frozenset().union(*(call.moved for call in calls)))
        if moved:
            raise RefusedError(
                f"`manual_backward` call {number} of `{type(self._module).__name__}.training_step` "
                f"must be at the module's weights, but the step has moved {moved[0]!r} and "
                f"{len(moved) - 1} other parameters until then, as sharpness-aware steps do. Give "
                f"`Loss(which=0)` for the loss before that. {_TO_SAY_WHICH}"
            )
        return names

    def _calls(self, batch: FrozenBatch, sandbox: Sandbox) -> list[BackwardCall]:
        sandbox.reset(batch.index)
        return self._run(batch.data, batch.index, wanted=None).calls

    def _check_number(self, count: int) -> None:
        step = f"`{type(self._module).__name__}.training_step`"
        if count == 0:
            raise RefusedError(
                f"{step} optimises by hand, but made no `manual_backward` call on the frozen "
                f"batches. {_TO_SAY_WHICH}"
            )
        if self._number is None and count > 1:
            raise RefusedError(
                f"{step} makes {count} `manual_backward` calls, each with a loss of its own. Say "
                f"which one to measure by `Loss(which=0)` to `Loss(which={count - 1})`, or define "
                "`hessian_loss(self, batch, batch_idx)`."
            )
        if self._number is not None and self._number >= count:
            raise RefusedError(
                f"`which` must be below {count}, the number of `manual_backward` calls that {step} "
                f"makes, got {self._number}."
            )

    def _run(self, batch: Any, index: int, *, wanted: int | None) -> _Recorder:
        recorder = _Recorder(self._module, wanted)
        with _nothing_moves(self._trainer, self._module, recorder), suppress(_Captured):
            self._step.run(batch, index)
        return recorder


class _Captured(BaseException):
    """Leaves the step once its loss is there; not an Exception, which a step may catch."""


class _Recorder:
    """Takes the place of backward passes and optimiser steps."""

    def __init__(self, module: nn.Module, wanted: int | None) -> None:
        self.calls: list[BackwardCall] = []
        self.loss: Tensor | None = None
        self._wanted = wanted
        self._pending: list[BackwardCall] = []
        self._has_stepped = False
        self._parameters = dict(module.named_parameters())
        self._names = {id(p): name for name, p in self._parameters.items()}
        is_counted = wanted is None
        self._start = {
            name: p.detach().clone()
            for name, p in self._parameters.items()
            if is_counted and p.requires_grad
        }

    def backward(
        self,
        loss: Tensor,
        _optimizer: object = None,
        gradient: Tensor | None = None,
        retain_graph: bool | None = None,  # noqa: ARG002 - of `Tensor.backward`
        create_graph: bool = False,  # noqa: ARG002
        inputs: Tensor | Iterable[Tensor] | None = None,
    ) -> None:
        """In place of ``Strategy.backward``, to which ``manual_backward`` leads."""
        if self._has_stepped:
            self._pending, self._has_stepped = [], False
        if len(self.calls) == self._wanted:
            # `backward(gradient)` is the gradient of this product
            self.loss = loss if gradient is None else (loss * gradient).sum()
            raise _Captured
        targets = [inputs] if isinstance(inputs, Tensor) else inputs
        reached = None if targets is None else {id(tensor) for tensor in targets}
        call = BackwardCall(
            frozenset(
                name
                for name, p in self._parameters.items()
                if p.requires_grad and (reached is None or id(p) in reached)
            ),
            frozenset(
                name
                for name, held in self._start.items()
                if not self._parameters[name].detach().equal(held)
            ),
        )
        self.calls.append(call)
        self._pending.append(call)
        for name in call.trainable:
            parameter = self._parameters[name]
            if parameter.grad is None:
                # for steps that read it, to log its norm or, as is seen then, to move weights by it
                fill = torch.ones_like if self._wanted is None else torch.zeros_like
                parameter.grad = fill(parameter)

    def step(self, optimizer: torch.optim.Optimizer, closure: Any = None, **_: Any) -> Any:
        """In place of ``optimizer.step``."""
        result = closure() if closure is not None else None
        self._has_stepped = True
        owned = frozenset(
            self._names[id(p)]
            for group in optimizer.param_groups
            for p in group["params"]
            if id(p) in self._names
        )
        for call in self._pending:
            call.stepped |= owned
        return result


@contextmanager
def _nothing_moves(
    trainer: Trainer, module: LightningModule, recorder: _Recorder
) -> Iterator[None]:
    """Put the recorder between the step and all that would move weights or schedules."""
    wrapped: Any = module.optimizers()
    with ExitStack() as stack:

        def shadow(owner: object, **values: object) -> None:
            stack.enter_context(replaced_attributes(owner, **values))

        shadow(trainer.strategy, backward=recorder.backward)
        shadow(trainer.precision_plugin, clip_gradients=_do_nothing)
        shadow(torch.autograd, backward=_refuse_backward)
        for each in wrapped if isinstance(wrapped, list) else [wrapped]:
            shadow(each, step=partial(recorder.step, each))
        for optimizer in trainer.optimizers:
            # reading it for a parameter that never stepped would make an entry
            entries = {key: dict(entry) for key, entry in optimizer.state.items()}
            step = partial(recorder.step, optimizer)
            shadow(optimizer, step=step, state=defaultdict(dict, entries))
        for config in trainer.lr_scheduler_configs:
            shadow(config.scheduler, step=_do_nothing)
        yield


def _do_nothing(*_: Any, **__: Any) -> None:
    """Take the place of a step of a scheduler, and of clipping."""


def _refuse_backward(*_: Any, **__: Any) -> NoReturn:
    raise RefusedError(
        "`training_step` calls `backward()` itself, past `self.manual_backward`, so which of its "
        f"losses is optimised is not known. Call `self.manual_backward(loss)`. {_TO_SAY_WHICH}"
    )
