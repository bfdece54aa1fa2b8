"""Where the loss of a step becomes a function of a network's outputs, and cutting it there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn import functional as F
from torch.overrides import (
    TorchFunctionMode,
    handle_torch_function,
    has_torch_function_variadic,
)

from lightning_hessian.errors import RefusedError

OF_LOGITS = (
    F.cross_entropy,
    F.binary_cross_entropy_with_logits,
    F.mse_loss,
    F.huber_loss,
    F.smooth_l1_loss,
)
OF_PROBABILITIES = (F.nll_loss, F.kl_div, F.binary_cross_entropy)
"""Losses whose outputs are what went into the soft-max, or the sigmoid, before."""
LOSSES = tuple(function.__name__ for function in (*OF_LOGITS, *OF_PROBABILITIES))
_LINKS = frozenset({"log_softmax", "softmax", "sigmoid", "logsigmoid", "log_sigmoid"})
_AFTER_LINKS = frozenset({"log", "clamp", "clamp_min", "clamp_max", "reshape", "view", "flatten",
                          "unflatten", "squeeze", "unsqueeze", "transpose", "permute", "movedim",
                          "contiguous", "float", "double", "to", "__getitem__"})  # fmt: skip


def as_outputs(tensor: Tensor) -> Tensor:
    """Mark what a network puts out: what the rest of the step makes a loss of.

    In training it gives back the tensor itself. Where the Gauss-Newton part of a Hessian is
    measured, the step is cut here, and no longer at the losses of ``torch.nn.functional`` that it
    calls: mark all outputs that the loss is a function of.

    Args:
        tensor: Real, of any shape.

    Returns:
        The tensor itself.

    Example:
        >>> import torch
        >>> logits = torch.zeros(3, 2)
        >>> as_outputs(logits) is logits
        True
    """
    if has_torch_function_variadic(tensor):
        marked: Tensor = handle_torch_function(as_outputs, (tensor,), tensor)
        return marked
    return tensor


@dataclass(frozen=True, slots=True, eq=False)
class Output:
    """One tensor at which a step was cut.

    Attributes:
        name: Of the loss that takes it, or ``as_outputs``.
        value: With the graph that leads to the parameters.
        leaf: What the loss was computed from instead: the same numbers, without that graph.
        misses: Its distances to the target, where the loss is made of their squares.
    """

    name: str
    value: Tensor
    leaf: Tensor
    misses: Tensor | None = None


class OutputCut(TorchFunctionMode):
    """Computes a step with its loss cut off from the outputs that it is a function of.

    Every tensor with a graph that a known loss takes, its target too, is replaced by a leaf of the
    same numbers. A loss of probabilities, or of their logarithms, is cut before the soft-max or
    sigmoid that made them.

    Args:
        by_marks: Whether to cut at :func:`as_outputs` alone.

    Attributes:
        outputs: In the order in which they were met.
        has_marks: Whether the step marks any.
    """

    def __init__(self, *, by_marks: bool) -> None:
        super().__init__()
        self.outputs: list[Output] = []
        self.has_marks: bool = False
        self._by_marks = by_marks
        # by identity, with the tensor itself, so that the identity is not used again
        self._links: dict[int, tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Compute as ever, of leaves where the step is cut."""
        kwargs = kwargs or {}
        if func is as_outputs:
            self.has_marks = True
            return self._leaf(args[0], "as_outputs") if self._by_marks else args[0]
        if not self._by_marks and func in OF_LOGITS:
            return self._of_leaves(func, args, kwargs, self._leaf)
        if not self._by_marks and func in OF_PROBABILITIES:
            return self._of_leaves(func, args, kwargs, self._leaf_before_link)
        result = func(*args, **kwargs)
        if isinstance(result, Tensor) and result.requires_grad:
            self._follow(func, args, kwargs, result)
        return result

    def _of_leaves(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        leaf: Callable[..., Tensor],
    ) -> Any:
        """A loss of leaves in the place of what has a graph."""
        misses = None
        if func is F.mse_loss:
            given = (*args, *(kwargs[name] for name in ("input", "target") if name in kwargs))
            misses = given[0].detach() - given[1].detach()

        def own(argument: Any) -> Any:
            is_cut = isinstance(argument, Tensor) and argument.requires_grad
            return leaf(argument, func.__name__, misses) if is_cut else argument

        return func(*map(own, args), **{name: own(value) for name, value in kwargs.items()})

    def _leaf(self, tensor: Tensor, name: str, misses: Tensor | None = None) -> Tensor:
        if not tensor.requires_grad:
            return tensor
        if tensor.is_complex():
            raise RefusedError(
                f"outputs must be real to have a Gauss-Newton part, got {tensor.dtype}. Mark "
                "`torch.view_as_real` of them by `as_outputs`."
            )
        leaf = tensor.detach().requires_grad_()
        self.outputs.append(Output(name, tensor, leaf, misses))
        return leaf

    def _leaf_before_link(self, tensor: Tensor, name: str, _: Tensor | None) -> Tensor:
        link = self._links.get(id(tensor))
        if link is not None:
            _, source, again = link
            return again(self._leaf(source, name))
        if name == "binary_cross_entropy":
            return self._leaf(tensor, name)
        raise RefusedError(
            f"the outputs behind `{name}` must go through a soft-max in the step itself, so that "
            "they can be told. Mark them by `as_outputs`, or use `cross_entropy`."
        )

    def _follow(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], made: Tensor
    ) -> None:
        """Remember what a soft-max or sigmoid was made of, and its views."""
        name = getattr(func, "__name__", "")
        if name not in _LINKS and name not in _AFTER_LINKS:
            return
        taken = args[0] if args else kwargs.get("input")
        if not isinstance(taken, Tensor):
            return
        rest = args[1:]
        options = {key: value for key, value in kwargs.items() if args or key != "input"}

        def again(tensor: Tensor) -> Tensor:
            computed: Tensor = func(tensor, *rest, **options)
            return computed

        known = self._links.get(id(taken))
        if name in _LINKS:
            self._links[id(made)] = (made, taken, again)
        elif known is not None:
            _, source, before = known
            self._links[id(made)] = (made, source, lambda tensor: again(before(tensor)))
