"""A place to call a training step as often as needed, from which nothing gets out."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.trainer.states import RunningStage
from torch import Tensor, nn

from lightning_hessian.objective.numerics import exact_derivatives
from lightning_hessian.objective.state import StateSnapshot
from lightning_hessian.results import Mode


class Sandbox:
    """Inside, a training step is a fixed function of the parameters; outside, nothing has happened.

    On entering, the state of the module, its data and the global generators is snapshot; logging is
    muted, loggers are replaced by dummies, the trainer says that it trains, gradient hooks of
    parameters are set aside, modules are put into the requested mode by their flags alone, and
    floating-point tensors are replaced by copies of ``dtype`` where theirs differs. On leaving,
    also by an exception, all of it is put back, bit by bit.

    Args:
        module: The user's module.
        mode: ``eval`` clears every ``training`` flag; ``train`` sets those of ``train_flags``.
        seed: Of the random numbers that the step draws.
        dtype: Floating-point type to compute in.
        train_flags: The ``training`` flag of each submodule while training; those found on
            entering when None.
        trainer: The Trainer that runs the module, if there is one.
        foreign: Further objects whose state a step or a fetch may change, such as the data set.
        copies: Compute with copies of the module's floating-point tensors even where their type is
            ``dtype`` already, so that ``backward()`` reaches no parameter of the user's.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        mode: Mode,
        seed: int,
        dtype: torch.dtype,
        train_flags: Mapping[nn.Module, bool] | None = None,
        trainer: Trainer | None = None,
        foreign: Iterable[object] = (),
        copies: bool = False,
    ) -> None:
        self.module = module
        self.dtype = dtype
        self.mode = mode
        self._seed = seed
        self._train_flags = train_flags
        self._trainer = trainer
        self._foreign = tuple(foreign)
        self._copies = copies
        self._stack = ExitStack()
        self._inside: StateSnapshot | None = None

    def __enter__(self) -> Sandbox:
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode(mode=False))
            stack.enter_context(torch.enable_grad())
            stack.callback(_global_generator_state())
            before = StateSnapshot([self.module], self._foreign)
            stack.callback(before.restore)
            _set_gradient_hooks_aside(stack, self.module)
            if self._trainer is not None:
                _silence_trainer(stack, self._trainer)
            stack.enter_context(exact_derivatives(self.module, self.dtype))
            own = StateSnapshot([self.module], base=before)
            _cast_floating(own, self.dtype, all_of_them=self._copies)
            self._set_flags()
            _mute_logging(self.module)
            self._inside = StateSnapshot([self.module], self._foreign, base=before)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._inside = None
        self._stack.__exit__(kind, error, traceback)

    def reset(self, index: int) -> None:
        """Return to the state just after entering, with all generators seeded for ``index``.

        Called before each evaluation, so that twice the same batch gives twice the same loss.

        Args:
            index: Of the batch or sample.
        """
        self._state.restore()
        self.reseed(index)

    def reseed(self, index: int) -> None:
        """Seed the global generators, and those that the module and its data own, for ``index``.

        Args:
            index: Of the batch or sample.
        """
        seed = (self._seed * 1_000_003 + index) % 2**32
        _seed_global_generators(seed)
        self._state.reseed(seed)

    @contextmanager
    def displaced(self, tensors: Sequence[Tensor], deltas: Sequence[Tensor]) -> Iterator[None]:
        """Move some tensors away from their values, for all evaluations inside.

        Args:
            tensors: Of the module.
            deltas: What to add to each.

        Yields:
            Nothing; the tensors' bits are put back at the end.
        """
        records = self._state.tensors
        before = {id(t): records[id(t)] for t in tensors}
        try:
            for tensor, delta in zip(tensors, deltas, strict=True):
                records[id(tensor)] = before[id(tensor)].moved(delta)
            yield
        finally:
            records.update(before)
            self._state.restore_tensors()

    @property
    def _state(self) -> StateSnapshot:
        if self._inside is None:
            raise RuntimeError("a `Sandbox` must be used inside its `with` block.")
        return self._inside

    def _set_flags(self) -> None:
        # by attribute: `.train()` and `.eval()` may be overridden (frozen BatchNorm, merged LoRA)
        for part in self.module.modules():
            if self.mode == "eval":
                part.training = False
            elif self._train_flags is not None:
                part.training = self._train_flags.get(part, part.training)


def _global_generator_state() -> Callable[[], None]:
    torch_state = torch.get_rng_state()
    cuda_states = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    numpy_state = np.random.get_state()  # noqa: NPY002 - the user's legacy generator
    python_state = random.getstate()

    def put_back() -> None:
        torch.set_rng_state(torch_state)
        if cuda_states:
            torch.cuda.set_rng_state_all(cuda_states)
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)

    return put_back


def _seed_global_generators(seed: int) -> None:
    # not `torch.manual_seed`: where CUDA is not initialised, it would leave a seed behind for it
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
    np.random.seed(seed)  # noqa: NPY002
    random.seed(seed)


def _set_gradient_hooks_aside(stack: ExitStack, module: nn.Module) -> None:
    """Hooks of ``p.register_hook`` (clipping, watching) would fire in our gradients."""
    for parameter in module.parameters():
        hooks: dict[Any, Any] | None = parameter._backward_hooks
        if hooks:
            stack.callback(hooks.update, dict(hooks))
            hooks.clear()


def _silence_trainer(stack: ExitStack, trainer: Trainer) -> None:
    stack.callback(setattr, trainer.state, "stage", trainer.state.stage)
    stack.callback(setattr, trainer, "should_stop", trainer.should_stop)
    stack.callback(setattr, trainer, "loggers", trainer.loggers)
    trainer.state.stage = RunningStage.TRAINING
    trainer.loggers = [DummyLogger() for _ in trainer.loggers]


def _mute_logging(module: nn.Module) -> None:
    for part in module.modules():
        if hasattr(part, "training_step") and hasattr(part, "log_dict"):
            part.__dict__["log"] = part.__dict__["log_dict"] = _ignore
            part.__dict__["_current_fx_name"] = "training_step"


def _ignore(*_: Any, **__: Any) -> None:
    """Take the place of ``self.log`` while a measurement runs."""


def _cast_floating(snapshot: StateSnapshot, dtype: torch.dtype, *, all_of_them: bool) -> None:
    """Put copies of another precision in the place of the module's floating-point tensors.

    The objects are replaced, not their storage: a parameter whose type changes in place loses its
    gradient accumulator, and with it the hooks by which data-parallel training synchronises.
    """
    casts: dict[int, Tensor] = {}
    for record in snapshot.tensors.values():
        tensor = record.tensor
        if tensor.is_floating_point() and (all_of_them or tensor.dtype != dtype):
            copy = tensor.detach().to(dtype, copy=True)
            casts[id(tensor)] = (
                nn.Parameter(copy, requires_grad=tensor.requires_grad)
                if isinstance(tensor, nn.Parameter)
                else copy
            )
    if not casts:
        return
    for container in snapshot.containers.values():
        container.replace(casts)
    for thing in snapshot.modules():
        if isinstance(thing.__dict__.get("_dtype"), torch.dtype):
            thing.__dict__["_dtype"] = dtype
