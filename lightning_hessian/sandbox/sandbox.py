"""A place to call a training step as often as needed, from which nothing gets out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import TracebackType

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.autograd.grad_mode import _unsafe_preserve_version_counter

from lightning_hessian.errors import RestorationError
from lightning_hessian.records import Mode
from lightning_hessian.sandbox.generators import global_generator_state, seed_global_generators
from lightning_hessian.sandbox.numerics import exact_derivatives, in_precision
from lightning_hessian.sandbox.shards import is_sharded, set_sharding_aside, whole
from lightning_hessian.sandbox.silence import mute_logging, silence_trainer, stand_ins
from lightning_hessian.sandbox.state import StateSnapshot


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
        dtype: Floating-point type to compute in; complex numbers are pairs of these.
        train_flags: The ``training`` flag of each submodule while training; those found on
            entering when None.
        trainer: The Trainer that runs the module, if there is one.
        foreign: Further objects whose state a step or a fetch may change, such as the data set.
        copies: Compute with copies of the module's floating-point tensors even where their type is
            ``dtype`` already, so that ``backward()`` reaches no parameter of the user's.
        fast_float32: Multiply float32 matrices by the faster kernels.
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
        fast_float32: bool = False,
    ) -> None:
        self.module = module
        self.dtype = dtype
        self.mode = mode
        self._seed = seed
        self._train_flags = train_flags
        self._trainer = trainer
        self._foreign = tuple(foreign)
        self._copies = copies
        self._fast_float32 = fast_float32
        self._stack = ExitStack()
        self._inside: StateSnapshot | None = None
        self._parameters: tuple[nn.Parameter, ...] = ()

    def __enter__(self) -> Sandbox:
        try:
            self._enter(self._stack)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._stack.__exit__(kind, error, traceback)
        finally:
            self.close()

    def close(self) -> None:
        """Put back what is still to be put back: something only after a fault in leaving."""
        self._inside, self._parameters = None, ()
        self._stack.close()

    def reset(self, index: int) -> None:
        """Return to the state just after entering, with all generators seeded for ``index``.

        Called before each evaluation, so that twice the same batch gives twice the same loss.
        """
        self._state.restore()
        for parameter in self._parameters:
            if parameter._backward_hooks:  # registered by the step itself
                parameter._backward_hooks = None
        self.reseed(index)

    def is_unchanged(self) -> bool:
        """Whether the last evaluation has left the state as :meth:`reset` had put it."""
        return self._state.is_unchanged()

    def reseed(self, index: int) -> None:
        """Seed the global generators, and those that the module and its data own, for ``index``."""
        seed = (self._seed * 1_000_003 + index) % 2**32
        seed_global_generators(seed)
        self._state.reseed(seed)

    @contextmanager
    def displaced(self, tensors: Sequence[Tensor], deltas: Sequence[Tensor]) -> Iterator[None]:
        """Move some tensors away from their values, for all evaluations inside."""
        saved = self._state.tensors
        before = {id(t): saved[id(t)] for t in tensors}
        try:
            for tensor, delta in zip(tensors, deltas, strict=True):
                saved[id(tensor)] = before[id(tensor)].moved(delta)
            yield
        finally:
            saved.update(before)
            self._state.restore_tensors()

    def hold(self, bits: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Give tensors of the module other bits, from any device, until the sandbox is left."""
        saved = self._state.tensors
        for tensor, other in bits:
            saved[id(tensor)] = saved[id(tensor)].holding(other.to(tensor.device, copy=True))
        self._state.restore_tensors()

    def _enter(self, stack: ExitStack) -> None:
        stack.enter_context(torch.inference_mode(mode=False))
        stack.enter_context(torch.enable_grad())
        stack.callback(global_generator_state())
        before = self._snapshot()
        _preserve_versions(stack, before)
        stack.callback(_put_back, before)
        _set_gradient_hooks_aside(stack, self.module)
        if self._trainer is not None:
            silence_trainer(self._trainer)
        stack.enter_context(
            exact_derivatives(self.module, self.dtype, fast_float32=self._fast_float32)
        )
        before.replace(stand_ins(before.owned) | self._copies_of(before))
        set_sharding_aside(self.module)
        self._set_flags()
        mute_logging(self.module)
        self._inside = self._snapshot(base=before)
        self._parameters = tuple(self.module.parameters())

    @property
    def _state(self) -> StateSnapshot:
        if self._inside is None:
            raise RuntimeError("a `Sandbox` must be used inside its `with` block.")
        return self._inside

    def _snapshot(self, base: StateSnapshot | None = None) -> StateSnapshot:
        trainer = self._trainer
        shallow = [] if trainer is None else [vars(trainer), vars(trainer.state)]
        return StateSnapshot([self.module], self._foreign, shallow, base)

    def _copies_of(self, before: StateSnapshot) -> dict[int, Tensor]:
        """Copies that stand in for the module's tensors of another precision, or with a graph.

        The objects are replaced, not their storage: a parameter whose type changes in place loses
        its gradient accumulator, and with it the hooks by which data-parallel training
        synchronises. A tensor that still holds the graph of an earlier step is a constant to this
        one; the graph stays the user's, to be run or freed by them. Sharded parameters are
        gathered, for which all processes come here.
        """
        copies: dict[int, Tensor] = {}
        types: set[torch.dtype] = set()
        for tensor in before.owned:
            if is_sharded(tensor) and isinstance(tensor, nn.Parameter):
                copies[id(tensor)] = _copy(tensor, in_precision(tensor.dtype, self.dtype))
                types.add(tensor.dtype)
            if not isinstance(tensor, Tensor) or id(tensor) not in before.tensors:
                continue
            dtype = in_precision(tensor.dtype, self.dtype)
            is_rounded = tensor.is_floating_point() or tensor.is_complex()
            if dtype != tensor.dtype or (is_rounded and self._copies) or not tensor.is_leaf:
                copies[id(tensor)] = _copy(tensor, dtype)
                types.add(tensor.dtype)
        if types - {self.dtype, self.dtype.to_complex()}:
            for thing in before.modules():
                if isinstance(thing.__dict__.get("_dtype"), torch.dtype):
                    thing.__dict__["_dtype"] = self.dtype
        return copies

    def _set_flags(self) -> None:
        # by attribute: `.train()` and `.eval()` may be overridden (frozen BatchNorm, merged LoRA)
        for part in self.module.modules():
            if self.mode == "eval":
                part.training = False
            elif self._train_flags is not None:
                part.training = self._train_flags.get(part, part.training)


def _put_back(before: StateSnapshot) -> None:
    try:
        before.restore()
    except Exception:
        _put_back_once_more(before)
        raise


def _put_back_once_more(before: StateSnapshot) -> None:
    """What has failed in the midst has left some of it."""
    try:
        before.restore()
    except Exception as error:
        raise RestorationError(
            f"the state from before the measurement could not be put back ({error}), so the run "
            "would go on from another one. Resume it from its last checkpoint without the callback."
        ) from error


def _preserve_versions(stack: ExitStack, snapshot: StateSnapshot) -> None:
    """Undo the counting of in-place changes, by which autograd would refuse a user's older graph.

    The bits are put back; so a graph that the user keeps across steps is as valid as before.
    """
    for saved in snapshot.tensors.values():
        if not saved.tensor.is_inference():
            stack.enter_context(_unsafe_preserve_version_counter(saved.tensor))


def _set_gradient_hooks_aside(stack: ExitStack, module: nn.Module) -> None:
    """Hooks of ``p.register_hook`` (clipping, watching) would fire in our gradients."""
    for parameter in module.parameters():
        stack.callback(setattr, parameter, "_backward_hooks", parameter._backward_hooks)
        parameter._backward_hooks = None


def _copy(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    copy = whole(tensor).to(dtype, copy=True)
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(copy, requires_grad=tensor.requires_grad)
    return copy.requires_grad_(tensor.is_leaf and tensor.requires_grad)
